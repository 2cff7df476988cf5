"""`/api/v1/users` and `/api/v1/rules`: users and rules that are kept in Redis. No answer has a hash or a key.

A password is hashed in a thread of this process, one at a time; how many wait is bounded by the requests that
the API takes at a time.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import anyio.to_thread
from pydantic import Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.audit import note_change
from broker.admin.describe import AFTER, LIMIT, describe
from broker.admin.exchange import Body, answer, error_answer, read_body, time_text
from broker.admin.paging import limit_of
from broker.auth import StoredUser
from broker.auth.rules import RULES_BYTES, allow_rules, parse_rules
from broker.auth.user import (
    ALLOWED_MAXIMUM,
    FILTER_LENGTH,
    GROUP_LENGTH,
    GROUPS_MAXIMUM,
    NAME_RULE,
    Allowed,
    ScramKeys,
    User,
    is_user_name,
)
from cluster.control import Desk
from cluster.users import UnknownUser, UserBook, UserExists, UserTooLarge

_USER_BYTES: Final = 64 << 10
_PASSWORD_LENGTH: Final = 1024

_STATUS: Final[dict[type[Exception], int]] = {UnknownUser: 404, UserTooLarge: 422}

_Group = Annotated[str, StringConstraints(min_length=1, max_length=GROUP_LENGTH)]
_Filters = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=FILTER_LENGTH)]],
    Field(max_length=ALLOWED_MAXIMUM),
]
_Password = Annotated[str, StringConstraints(min_length=1, max_length=_PASSWORD_LENGTH)]


class AllowedBody(Body):
    """What one user may do, whatever the rules for all are: Topic Filters with `%u` and `%c`."""

    publish: _Filters = Field(default_factory=list)
    subscribe: _Filters = Field(default_factory=list)


class UserBody(Body):
    """What is not in there stays as it is. `hash`: an argon2id hash in place of a password; `scram`: with it,
    keys for SCRAM-SHA-256 of the same password, as in a password file. `rules` null: none of its own.
    `expect`: refuse if the user is there already, or is not."""

    password: _Password | None = None
    hash: str | None = None
    scram: str | None = None
    groups: Annotated[list[_Group], Field(max_length=GROUPS_MAXIMUM)] | None = None
    enabled: bool | None = None
    rules: AllowedBody | None = None
    expect: Literal["new", "existing"] | None = None


class RulesBody(Body):
    """The text of a file of rules."""

    text: str


def user_routes(desk: Desk, scram_iterations: int | None) -> Sequence[Route]:
    """Below `/api/v1`."""
    users = _Users(desk, scram_iterations)
    rules = _Rules(desk)
    return [
        Route("/users", users.page),
        Route("/users/{name:path}", users.show, methods=["GET"]),
        Route("/users/{name:path}", users.put, methods=["PUT"]),
        Route("/users/{name:path}", users.delete, methods=["DELETE"]),
        Route("/rules", rules.show, methods=["GET"]),
        Route("/rules", rules.put, methods=["PUT"]),
        Route("/rules", rules.delete, methods=["DELETE"]),
        Route("/rules/check", rules.check, methods=["POST"]),
    ]


async def on_users_error(_: Request, error: Exception) -> Response:
    """What becomes of a UsersError."""
    return error_answer(_STATUS.get(type(error), 409), str(error))


class _Users:
    def __init__(self, desk: Desk, scram_iterations: int | None) -> None:
        self._desk = desk
        self._scram_iterations = scram_iterations
        self._one_at_a_time = anyio.CapacityLimiter(1)

    @describe("users", "Users that are kept in Redis, by name.", query={"limit": LIMIT, "after": AFTER})
    async def page(self, request: Request) -> Response:
        limit = limit_of(request)
        found, following = await _book(self._desk).page(request.query_params.get("after"), limit)
        return answer({"users": [_shown(user) for user in found], "next": following})

    @describe("users", "One user; never a hash or a key.")
    async def show(self, request: Request) -> Response:
        return answer(_shown(await _book(self._desk).user(request.path_params["name"])))

    @describe("users", "Makes a user (201), or changes what is said of it.", body=UserBody)
    async def put(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not is_user_name(name):
            raise HTTPException(422, f"a user name has {NAME_RULE}")
        body = await read_body(request, UserBody, _USER_BYTES)
        book = _book(self._desk)
        proof = await self._proof(name, body)

        def edit(before: User | None) -> User:
            return _edited(name, before, body, proof)

        is_new = await book.change(name, edit)
        changed = sorted(body.model_fields_set - {"expect"})
        note_change(request, "user_created" if is_new else "user_changed", username=name, fields=changed)
        return answer(_shown(await book.user(name)), 201 if is_new else 200)

    @describe("users", "Deletes a user, whose clients are disconnected.", body=Body)
    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        await read_body(request, Body)
        await _book(self._desk).delete(name)
        note_change(request, "user_deleted", username=name)
        return answer({"name": name})

    async def _proof(self, name: str, body: UserBody) -> tuple[str, ScramKeys | None] | None:
        """Hash and keys of a password; None if that stays as it is."""
        if body.password is not None and body.hash is not None:
            raise HTTPException(422, "either a password or a hash")
        if body.hash is not None:
            return _kept(body.hash, body.scram)
        if body.scram is not None:
            raise HTTPException(422, "scram: keys go with a hash")
        if body.password is None:
            return None
        return await anyio.to_thread.run_sync(
            _derive, name, body.password, self._scram_iterations, limiter=self._one_at_a_time
        )


class _Rules:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe("rules", "The rules that are kept in Redis, for all nodes.")
    async def show(self, _: Request) -> Response:
        version, text = await _book(self._desk).rules()
        return answer({"version": version, "text": text})

    @describe("rules", "Looks for mistakes in rules, and changes nothing.", body=RulesBody)
    async def check(self, request: Request) -> Response:
        """200 in any case: `mistakes` has a line for each."""
        body = await read_body(request, RulesBody, 2 * RULES_BYTES)
        return answer({"mistakes": await _mistakes(body.text)})

    @describe("rules", "Replaces the rules, on all nodes.", body=RulesBody)
    async def put(self, request: Request) -> Response:
        body = await read_body(request, RulesBody, 2 * RULES_BYTES)
        mistakes = await _mistakes(body.text)
        if mistakes:
            raise HTTPException(422, "\n".join(mistakes))
        version = await _book(self._desk).replace_rules(body.text)
        note_change(request, "rules_replaced", version=version)
        return answer({"version": version})

    @describe("rules", "Takes the rules away.", body=Body)
    async def delete(self, request: Request) -> Response:
        await read_body(request, Body)
        version = await _book(self._desk).replace_rules(None)
        note_change(request, "rules_cleared", version=version)
        return answer({"version": version})


def _book(desk: Desk) -> UserBook:
    if desk.control is None:
        raise HTTPException(503, "Redis has not been reached yet")
    return desk.control.users


def _edited(
    name: str, before: User | None, body: UserBody, proof: tuple[str, ScramKeys | None] | None
) -> User:
    if before is None and body.expect == "existing":
        raise UnknownUser(f"there is no user {name}")
    if before is not None and body.expect == "new":
        raise UserExists(f"there is a user {name} already")
    if before is None and proof is None:
        raise HTTPException(422, "a new user needs a password or a hash")
    old = before or User("")
    hashed, scram = proof or (old.hashed, old.scram)
    return User(
        hashed,
        frozenset(body.groups) if body.groups is not None else old.groups,
        body.enabled if body.enabled is not None else old.is_enabled,
        _allowed(body.rules) if "rules" in body.model_fields_set else old.allowed,
        scram,
    )


def _allowed(body: AllowedBody | None) -> Allowed | None:
    if body is None:
        return None
    try:
        allow_rules(body.publish, body.subscribe)
    except ValueError:
        raise HTTPException(422, "rules: not lists of Topic Filters") from None
    return Allowed(tuple(body.publish), tuple(body.subscribe))


def _kept(hashed: str, keys: str | None) -> tuple[str, ScramKeys | None]:
    """What somebody else has made of a password."""
    # Not above: argon2 and its hashes are needed by those who change passwords only.
    from broker.auth.hashing import hash_mistake
    from broker.auth.scram_keys import parse_keys

    mistake = hash_mistake(hashed)
    if mistake is not None:
        raise HTTPException(422, f"hash: {mistake}")
    try:
        return hashed, parse_keys(keys) if keys is not None else None
    except ValueError as error:
        raise HTTPException(422, f"scram: {error}") from None


def _derive(name: str, password: str, scram_iterations: int | None) -> tuple[str, ScramKeys | None]:
    """What is kept of the password."""
    from broker.auth.hashing import hash_password
    from broker.auth.scram_keys import keys_of_user

    keys = keys_of_user(name, password, scram_iterations) if scram_iterations is not None else None
    return hash_password(password), keys


async def _mistakes(text: str) -> list[str]:
    """A line for each; in a thread, as there may be many rules."""

    def look() -> list[str]:
        if len(text.encode()) > RULES_BYTES:
            return [f"more than {RULES_BYTES} bytes"]
        try:
            parse_rules(text)
        except ValueError as error:
            return str(error).splitlines()
        return []

    return await anyio.to_thread.run_sync(look)


def _shown(stored: StoredUser) -> dict[str, object]:
    user = stored.user
    allowed = user.allowed
    return {
        "name": stored.name,
        "enabled": user.is_enabled,
        "groups": sorted(user.groups),
        "rules": {"publish": allowed.publish, "subscribe": allowed.subscribe}
        if allowed is not None
        else None,
        "scram": user.scram is not None,
        "created": time_text(stored.created_ms),
        "changed": time_text(stored.changed_ms),
    }
