"""API keys: everybody's own, and anybody's for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ots_common.problems import Problem
from ots_common.schemas import PlainText, ProblemModel, RequestModel
from ots_gateway import audit
from ots_gateway.access import Role
from ots_gateway.api_keys import ApiKeys, StoredKey
from ots_gateway.authentication import Authenticator
from ots_gateway.metrics import count_refusal, count_tokens
from ots_gateway.routes.models import Id, RoleName, ScopeName, UserPath, answer, asker, person
from ots_gateway.users import Users

_TAG = Tag(name="keys", description="Keys for programs")


class KeyPath(RequestModel):
    """A key of one's own."""

    key_id: Id


class UserKeyPath(RequestModel):
    """A key of a user."""

    user_id: Id
    key_id: Id


class NewKeyBody(RequestModel):
    """A key to be. It may no more than its role, its scopes and its owner may."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "notebook", "role": "viewer", "scopes": ["market", "analytics"], "expires_in_days": 30}
            ]
        }
    )

    name: Annotated[PlainText, StringConstraints(min_length=1, max_length=100)]
    role: RoleName = "viewer"
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=5)] = Field(
        default=["market", "analytics", "cache"]
    )
    expires_in_days: int = Field(90, ge=1, le=365)


class KeyModel(BaseModel):
    """A key, without its secret."""

    key_id: str
    name: str
    prefix: str = Field(description="the first characters of the key")
    role: RoleName
    scopes: list[ScopeName]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="to the minute")
    revoked_at: datetime | None


class NewKeyModel(KeyModel):
    """A key; ``key`` is told here and never again. Send it as ``X-API-Key``."""

    key: str


class KeysModel(BaseModel):
    """Keys, the newest first; those that ended within 30 days are among them."""

    keys: list[KeyModel]


def blueprint(api_keys: ApiKeys, users: Users, authenticator: Authenticator) -> APIBlueprint:
    """The routes of keys."""
    api = APIBlueprint("keys", __name__, url_prefix="/api/v1", abp_tags=[_TAG])

    def revoke(user_id: str, key_id: str) -> Response:
        audit.note(target_id=key_id, of=user_id)
        if not api_keys.revoke(user_id, key_id):
            # the same for a key of somebody else's: it must not tell which ids exist
            raise Problem(404, "not-found", f"there is no key {key_id}")
        authenticator.forget(lambda known: known.token_id == key_id)
        return Response(status=204)

    @api.get("/keys", summary="Your keys", responses={200: KeysModel})
    def list_keys() -> Response:
        return answer(_models(api_keys.of_user(asker().user_id)))

    @api.post(
        "/keys",
        summary="Make a key",
        responses={201: NewKeyModel, 403: ProblemModel, 409: ProblemModel, 422: ProblemModel},
    )
    def make_key(body: NewKeyBody) -> Response:
        user = person()
        role = Role.named(body.role)
        if role > user.role:
            count_refusal("role")
            count_tokens("key", issued=False)
            raise Problem(403, "role", f"a key of yours may be {user.role.label} at most")
        try:
            stored, key = api_keys.make(user.user_id, body.name, role, sorted(set(body.scopes)), body.expires_in_days)
        except Problem:
            count_tokens("key", issued=False)
            raise
        count_tokens("key", issued=True)
        audit.note(target=stored.prefix, target_id=stored.key_id, role=stored.role, scopes=list(stored.scopes))
        return answer(NewKeyModel(**_model(stored).model_dump(), key=key), 201)

    @api.delete("/keys/<key_id>", summary="Revoke a key of yours", responses={204: None, 404: ProblemModel})
    def revoke_own(path: KeyPath) -> Response:
        return revoke(person().user_id, str(path.key_id))

    @api.get("/users/<user_id>/keys", summary="A user's keys", responses={200: KeysModel, 404: ProblemModel})
    def list_keys_of(path: UserPath) -> Response:
        if users.find(str(path.user_id)) is None:
            raise Problem(404, "not-found", f"there is no user {path.user_id}")
        return answer(_models(api_keys.of_user(str(path.user_id))))

    @api.delete(
        "/users/<user_id>/keys/<key_id>", summary="Revoke a user's key", responses={204: None, 404: ProblemModel}
    )
    def revoke_of(path: UserKeyPath) -> Response:
        person()
        return revoke(str(path.user_id), str(path.key_id))

    return api


def _model(key: StoredKey) -> KeyModel:
    return KeyModel(
        key_id=key.key_id,
        name=key.name,
        prefix=key.prefix,
        role=key.role,
        scopes=list(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )


def _models(keys: list[StoredKey]) -> KeysModel:
    return KeysModel(keys=[_model(key) for key in keys])
