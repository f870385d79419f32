"""Signing in."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from flask import Response, g, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, StringConstraints

from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.schemas import ProblemModel, RequestModel
from ots_gateway.access import Role
from ots_gateway.accounts import find_account
from ots_gateway.door import remember
from ots_gateway.passwords import PasswordChecker
from ots_gateway.user_tokens import TokenAuthority, User

log = structlog.get_logger(__name__)

_TAG = Tag(name="auth", description="Who you are")
RoleName = Literal["viewer", "trader", "operator", "admin"]


class LoginBody(RequestModel):
    """A user's name and password; ``role`` asks for a token that may less than the user may."""

    username: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    role: RoleName | None = None


class TokenModel(BaseModel):
    """A token to send as ``Authorization: Bearer ...``."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="seconds")
    role: RoleName


class MeModel(BaseModel):
    """Who the token speaks for."""

    user_id: str
    username: str
    role: RoleName


def blueprint(database: Database, authority: TokenAuthority, checker: PasswordChecker) -> APIBlueprint:
    """The routes of signing in."""
    api = APIBlueprint("auth", __name__, url_prefix="/api/v1/auth", abp_tags=[_TAG])

    @api.post(
        "/login",
        summary="Sign in",
        responses={200: TokenModel, 401: ProblemModel, 403: ProblemModel, 422: ProblemModel},
    )
    def login(body: LoginBody) -> Response:
        account = find_account(database, body.username)
        right = checker.matches(body.password, account.password_hash if account else None)
        if account is None or not right:
            # one answer for every reason: it must not tell which names exist
            raise Problem(401, "login", "no such user, or another password", headers={"WWW-Authenticate": "Bearer"})
        role = Role.named(body.role) if body.role else account.role
        user = User(account.user_id, account.username, role)
        remember(user)
        if role > account.role:
            raise Problem(403, "role", f"{account.username} has the role {account.role.label}, not {role.label}")
        token = {
            "access_token": authority.sign(user),
            "token_type": "Bearer",
            "expires_in": authority.lifetime_s,
            "role": role.label,
        }
        return Response(json.dumps(token), mimetype="application/json")

    @api.get("/me", summary="Who the token speaks for", responses={200: MeModel, 401: ProblemModel})
    def me() -> Response:
        user: User = g.user
        body = {"user_id": user.user_id, "username": user.username, "role": user.role.label}
        return Response(json.dumps(body), mimetype="application/json")

    return api
