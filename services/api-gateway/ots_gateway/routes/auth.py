"""Signing in and out."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_gateway import audit
from ots_gateway.access import Role
from ots_gateway.authentication import Authenticator
from ots_gateway.door import remember
from ots_gateway.identity import User
from ots_gateway.lockout import network_of
from ots_gateway.metrics import count_auth_failure
from ots_gateway.passwords import PasswordChecker, objection
from ots_gateway.routes.models import (
    NewPassword,
    RoleName,
    ScopeName,
    TypedPassword,
    TypedUsername,
    answer,
    asker,
    person,
)
from ots_gateway.sessions_of_users import Ended, Granted, InvalidRefreshError, Sessions
from ots_gateway.sign_in import SignIn
from ots_gateway.user_tokens import TokenAuthority
from ots_gateway.users import Users, canonical_username

_TAG = Tag(name="auth", description="Who you are")
_BEARER = {"WWW-Authenticate": "Bearer"}


class LoginBody(RequestModel):
    """A user's name and password; ``role`` asks for tokens that may less than the user may."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "admin", "password": "what ADMIN_PASSWORD in .env says"}]}
    )

    username: TypedUsername
    password: TypedPassword
    role: RoleName | None = None


class RefreshBody(RequestModel):
    """The newest refresh token of a sign-in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "otr_" + "0" * 43}]})

    refresh_token: Annotated[str, StringConstraints(pattern=r"^otr_[A-Za-z0-9_-]{43}$")]


class PasswordBody(RequestModel):
    """The password as it is, and as it shall be; ``revoke_keys`` ends your API keys too."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"current_password": "the one until now", "new_password": "a longer one from now on"}]
        }
    )

    current_password: TypedPassword
    new_password: NewPassword
    revoke_keys: bool = False


class TokenModel(BaseModel):
    """A token to send as ``Authorization: Bearer ...``, and one that gets the next pair, once."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = Field(description="seconds")
    role: RoleName
    refresh_token: str = Field(description="works once; used twice it ends the session")
    refresh_expires_in: int = Field(description="seconds")


class MeModel(BaseModel):
    """Who the credential speaks for; ``scopes`` null: all of them."""

    user_id: str
    username: str
    role: RoleName
    credential: Literal["token", "key"]
    scopes: list[ScopeName] | None


def blueprint(
    authenticator: Authenticator,
    authority: TokenAuthority,
    sign_in: SignIn,
    sessions: Sessions,
    users: Users,
    checker: PasswordChecker,
) -> APIBlueprint:
    """The routes of signing in and out."""
    api = APIBlueprint("auth", __name__, url_prefix="/api/v1/auth", abp_tags=[_TAG])

    def tokens(granted: Granted) -> Response:
        session = granted.session
        token = authority.sign(
            user_id=session.user_id,
            username=session.username,
            role=session.granted,
            session_id=session.session_id,
            session_ends=session.ends,
        )
        body = TokenModel(
            access_token=token,
            expires_in=authority.lifetime_s,
            role=session.granted.label,
            refresh_token=granted.refresh_token,
            refresh_expires_in=granted.refresh_ttl_s,
        )
        return answer(body)

    @api.post(
        "/login",
        summary="Sign in",
        responses={
            200: TokenModel, 401: ProblemModel, 403: ProblemModel, 422: ProblemModel, 429: ProblemModel,
            503: ProblemModel,
        },
    )  # fmt: skip
    def login(body: LoginBody) -> Response:
        address = request.remote_addr or "unknown"
        # what is no username is not written down: it may be a password typed into the wrong field
        audit.note(username=canonical_username(body.username))
        found = sign_in.check(body.username, body.password, address)
        if found is None:
            raise _no_sign_in()
        asked = Role.named(body.role) if body.role else None
        remember(User(found.user_id, found.username, found.role))
        if asked is not None and asked > found.role:
            count_auth_failure("role")
            raise Problem(403, "role", f"{found.username} has the role {found.role.label}, not {asked.label}")
        granted = sessions.open(found.user_id, found.password_hash, asked, network_of(address))
        if granted is None:
            raise _no_sign_in()
        remember(_user_of(granted))
        return tokens(granted)

    @api.post(
        "/refresh",
        summary="Get the next pair of tokens",
        responses={200: TokenModel, 401: ProblemModel, 422: ProblemModel, 503: ProblemModel},
    )
    def refresh(body: RefreshBody) -> Response:
        try:
            granted = sessions.refresh(body.refresh_token)
        except InvalidRefreshError as error:
            audit.note(event="refresh_reused" if error.reused else None, username=error.username)
            count_auth_failure("refresh_reused" if error.reused else "refresh")
            raise Problem(401, "refresh", str(error), headers=_BEARER) from error
        remember(_user_of(granted))
        return tokens(granted)

    @api.post("/logout", summary="Sign out: end this session and its tokens", responses={204: None, 401: ProblemModel})
    def logout() -> Response:
        user = person()
        sessions.end(user.session_id or "", Ended.LOGOUT)
        authenticator.forget(lambda known: known.session_id == user.session_id)
        return Response(status=204)

    @api.post(
        "/password",
        summary="Change your password; ends your other sessions",
        responses={204: None, 401: ProblemModel, 403: ProblemModel, 422: ProblemModel, 429: ProblemModel},
    )
    def password(body: PasswordBody) -> Response:
        user = person()
        if problem := objection(body.new_password, user.username):
            raise invalid("#/body/new_password", problem)
        if sign_in.check(user.username, body.current_password, request.remote_addr or "unknown") is None:
            audit.note(event="password_change")
            raise Problem(403, "password", "not the current password, or too many attempts: then wait up to 15 minutes")
        with checker.turn():
            hashed = checker.hash(body.new_password)
        users.set_password(user.user_id, hashed, keep_session=user.session_id, revoke_keys=body.revoke_keys)
        audit.note(revoke_keys=body.revoke_keys)
        authenticator.forget(lambda known: known.user_id == user.user_id and known.session_id != user.session_id)
        return Response(status=204)

    @api.get("/me", summary="Who the credential speaks for", responses={200: MeModel, 401: ProblemModel})
    def me() -> Response:
        user = asker()
        body = MeModel(
            user_id=user.user_id,
            username=user.username,
            role=user.role.label,
            credential=user.credential,
            scopes=None if user.scopes is None else sorted(user.scopes),
        )
        return answer(body)

    return api


def _no_sign_in() -> Problem:
    # one answer for every reason: it must not tell which names exist, nor which are locked
    return Problem(
        401,
        "login",
        "no such user, another password, or too many attempts: then wait up to 15 minutes",
        headers=_BEARER,
    )


def _user_of(granted: Granted) -> User:
    session = granted.session
    return User(session.user_id, session.username, session.granted, session_id=session.session_id)
