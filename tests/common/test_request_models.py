"""Request models describe themselves once: flask-openapi3 asks for it with each request."""

from pydantic import Field

from ots_common.schemas import PageQuery, RequestModel


class FirstQuery(PageQuery):
    """One."""

    name: str = Field("x", description="a name")


class SecondQuery(RequestModel):
    """Another."""

    count: int


def test_each_has_its_own_schema_and_keeps_it():
    assert set(FirstQuery.model_json_schema()["properties"]) == {"limit", "cursor", "name"}
    assert set(SecondQuery.model_json_schema()["properties"]) == {"count"}
    assert SecondQuery.model_json_schema()["required"] == ["count"]
    assert FirstQuery.model_json_schema() is FirstQuery.model_json_schema()
    assert set(PageQuery.model_json_schema()["properties"]) == {"limit", "cursor"}


def test_what_is_asked_otherwise_is_made_anew_and_is_the_same():
    asked = FirstQuery.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
    assert asked == FirstQuery.model_json_schema()
    assert asked is not FirstQuery.model_json_schema()
