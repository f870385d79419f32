"""Users, for administrators."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.tables import next_url
from ots_gateway import audit
from ots_gateway.access import Role
from ots_gateway.authentication import Authenticator
from ots_gateway.passwords import PasswordChecker, objection
from ots_gateway.routes.models import NewPassword, RoleName, TypedUsername, UserPath, answer, person
from ots_gateway.users import StoredUser, Users, canonical_username

_TAG = Tag(name="users", description="Who may use the platform")


class UsersQuery(RequestModel):
    """One page of the list, by name."""

    limit: int = Field(100, ge=1, le=1000, description="Users at most.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


class NewUserBody(RequestModel):
    """A user to be: ASCII letters, digits and ``. _ @ -``, starting with a letter or a digit."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "ada", "password": "analytical engine 1843", "role": "viewer"}]}
    )

    username: TypedUsername
    password: NewPassword
    role: RoleName


class UserChangeBody(RequestModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "trader"}]})

    role: RoleName | None = None
    disabled: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> UserChangeBody:
        if self.role is None and self.disabled is None:
            raise ValueError("say role, disabled, or both")
        return self


class ResetBody(RequestModel):
    """The password that the user shall have; ``revoke_keys`` ends the user's API keys too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"new_password": "a longer one from now on"}]})

    new_password: NewPassword
    revoke_keys: bool = False


class UserModel(BaseModel):
    """A user."""

    user_id: str
    username: str
    role: RoleName
    disabled: bool
    created_at: datetime
    password_changed_at: datetime


class UsersModel(BaseModel):
    """Users by name; ``next`` is the following page."""

    users: list[UserModel]
    next: str | None


def blueprint(users: Users, authenticator: Authenticator, checker: PasswordChecker) -> APIBlueprint:
    """The routes of users."""
    api = APIBlueprint("users", __name__, url_prefix="/api/v1/users", abp_tags=[_TAG])

    def forget(user_id: str) -> None:
        authenticator.forget(lambda known: known.user_id == user_id)

    @api.get("", summary="All users", responses={200: UsersModel, 422: ProblemModel})
    def list_users(query: UsersQuery) -> Response:
        after = decode_cursor(query.cursor, (str,))[0] if query.cursor else ""
        found = users.page(after, query.limit + 1)
        more = len(found) > query.limit
        page = found[: query.limit]
        following = next_url(encode_cursor([page[-1].username])) if more else None
        return answer(UsersModel(users=[_model(user) for user in page], next=following))

    @api.post("", summary="Make a user", responses={201: UserModel, 409: ProblemModel, 422: ProblemModel})
    def make_user(body: NewUserBody) -> Response:
        person()
        username = canonical_username(body.username)
        if username is None:
            raise invalid("#/body/username", "a username is ASCII letters, digits and . _ @ -, and starts with neither")
        if problem := objection(body.password, username):
            raise invalid("#/body/password", problem)
        audit.note(target=username, role=body.role)
        with checker.turn():
            hashed = checker.hash(body.password)
        made = users.make(username, hashed, Role.named(body.role))
        audit.note(target=username, target_id=made.user_id, role=body.role)
        return answer(_model(made), 201, Location=f"/api/v1/users/{made.user_id}")

    @api.get("/<user_id>", summary="A user", responses={200: UserModel, 404: ProblemModel})
    def get_user(path: UserPath) -> Response:
        return answer(_model(_found(users.find(str(path.user_id)), path.user_id)))

    @api.patch(
        "/<user_id>",
        summary="Change a user's role, disable or enable them",
        responses={200: UserModel, 404: ProblemModel, 409: ProblemModel, 422: ProblemModel},
    )
    def change_user(path: UserPath, body: UserChangeBody) -> Response:
        person()
        audit.note(target_id=str(path.user_id), **body.model_dump(exclude_none=True))
        changed = users.change(str(path.user_id), Role.named(body.role) if body.role else None, body.disabled)
        forget(str(path.user_id))
        if changed is None:
            raise _absent(path.user_id)
        before, after = changed
        audit.note(
            target=after.username,
            target_id=after.user_id,
            role=[before.role.label, after.role.label],
            disabled=[before.disabled, after.disabled],
        )
        return answer(_model(after))

    @api.delete(
        "/<user_id>",
        summary="Remove a user; the name stays taken",
        responses={204: None, 404: ProblemModel, 409: ProblemModel},
    )
    def remove_user(path: UserPath) -> Response:
        person()
        audit.note(target_id=str(path.user_id))
        removed = _found(users.remove(str(path.user_id)), path.user_id)
        forget(removed.user_id)
        audit.note(target=removed.username, target_id=removed.user_id, role=removed.role.label)
        return Response(status=204)

    @api.post(
        "/<user_id>/password",
        summary="Set the password of a user who lost theirs; ends their sessions",
        responses={204: None, 404: ProblemModel, 409: ProblemModel, 422: ProblemModel},
    )
    def reset_password(path: UserPath, body: ResetBody) -> Response:
        admin = person()
        audit.note(target_id=str(path.user_id))
        if str(path.user_id) == admin.user_id:
            # a stolen token must not be enough to take over the account that it is of
            raise Problem(409, "own-password", "your own password: POST /api/v1/auth/password, with the current one")
        user = _found(users.find(str(path.user_id)), path.user_id)
        if problem := objection(body.new_password, user.username):
            raise invalid("#/body/new_password", problem)
        with checker.turn():
            hashed = checker.hash(body.new_password)
        if not users.set_password(user.user_id, hashed, keep_session=None, revoke_keys=body.revoke_keys):
            raise _absent(path.user_id)
        forget(user.user_id)
        audit.note(target=user.username, target_id=user.user_id, revoke_keys=body.revoke_keys)
        return Response(status=204)

    return api


def _model(user: StoredUser) -> UserModel:
    return UserModel(
        user_id=user.user_id,
        username=user.username,
        role=user.role.label,
        disabled=user.disabled,
        created_at=user.created_at,
        password_changed_at=user.password_changed_at,
    )


def _found(user: StoredUser | None, user_id: UUID) -> StoredUser:
    if user is None:
        raise _absent(user_id)
    return user


def _absent(user_id: UUID) -> Problem:
    return Problem(404, "not-found", f"there is no user {user_id}")
