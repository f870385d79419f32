"""The public halves of the keys that sign tokens."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from ots_common.schemas import ProblemModel
from ots_gateway.routes.models import answer
from ots_gateway.signing_keys import JWKS_MAX_AGE_S, KeySet

_TAG = Tag(name="auth", description="Who you are")


class Jwk(BaseModel):
    """An Ed25519 key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class JwksModel(BaseModel):
    """A JWK set (RFC 7517): keys of tokens that live, and the one that signs next."""

    keys: list[Jwk]


def blueprint(keys: KeySet) -> APIBlueprint:
    """The route of the key set."""
    api = APIBlueprint("jwks", __name__, abp_tags=[_TAG])

    @api.get("/.well-known/jwks.json", summary="Keys of tokens", responses={200: JwksModel, 503: ProblemModel})
    def jwks() -> Response:
        found = [Jwk.model_validate(key) for key in keys.public()]
        # the API's own JSON type: clients of JWKS take both
        return answer(JwksModel(keys=found), 200, **{"Cache-Control": f"public, max-age={JWKS_MAX_AGE_S}"})

    return api
