"""Managing users and rules that are kept in Redis, from any process.

UsersError
├── UnknownUser    there is no such user
├── UserExists     there is one already
├── TooManyUsers   there is no room for another one
└── UserTooLarge   its groups and rules take too much room
"""

from collections.abc import Callable
from typing import Final

from broker.auth.user import StoredUser, User
from broker.errors import MoorlineError
from cluster.store import users
from cluster.store.call import Reply, Request
from cluster.store.errors import CallFailed, ItemError
from cluster.store.reply import as_int
from cluster.store.store import Store

_ATTEMPTS: Final = 10

RECORD_BYTES: Final = 16 << 10
"""Of a user in Redis, and so in the memory of nodes."""

Edit = Callable[[User | None], User]
"""What becomes of a user, or of none. May raise UsersError."""


class UsersError(MoorlineError):
    """What was asked can't be done; the text says why."""


class UnknownUser(UsersError):
    """It was to be changed."""


class UserExists(UsersError):
    """It was to be made."""


class TooManyUsers(UsersError):
    """There are `users.USERS_MAXIMUM`."""


class UserTooLarge(UsersError):
    """It would take more than RECORD_BYTES."""


class UserBook:
    """All methods raise StoreError if Redis does not answer, or refuses."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def user(self, name: str) -> StoredUser:
        """Raises UnknownUser."""
        found = await self._find(name)
        if found is None:
            raise UnknownUser(f"there is no user {name}")
        return found

    async def page(self, after: str | None, limit: int) -> tuple[list[StoredUser], str | None]:
        """Users behind a name, in the order of their names' bytes; and the name to go on behind, None after
        the last page."""
        return users.parse_page(await ask(self._store, users.users_page(after, limit)))

    async def change(self, name: str, edit: Edit) -> bool:
        """Makes a user, or changes it; whether it is new. Nobody else's change is undone. Raises UsersError,
        and what `edit` does."""
        for _ in range(_ATTEMPTS):
            before = await self._find(name)
            after = edit(before.user if before is not None else None)
            if (
                before is not None and before.user == after
            ):  # also if the answer to the attempt before was lost
                return False
            record = users.pack_user(after)
            if len(record) > RECORD_BYTES:
                raise UserTooLarge(f"groups and rules of a user have at most {RECORD_BYTES} bytes")
            request = users.put_user(
                name,
                record,
                before.version if before is not None else 0,
                renews=before is None or must_go(before.user, after),
            )
            answer = as_int(await ask(self._store, request, "write"))
            if answer == users.FULL:
                raise TooManyUsers(f"there are {users.USERS_MAXIMUM} users already")
            if answer != users.CONFLICT:
                return before is None
        raise CallFailed(f"others keep changing the user {name}, or it can't be read")

    async def delete(self, name: str) -> None:
        """Raises UnknownUser."""
        if as_int(await ask(self._store, users.delete_user(name))) == 0:
            raise UnknownUser(f"there is no user {name}")

    async def rules(self) -> tuple[int, str | None]:
        """Version and text of the rules; None: there are none."""
        return users.parse_rules(await ask(self._store, users.read_rules(-1)))

    async def replace_rules(self, text: str | None) -> int:
        """Takes a text that has been looked at; its version."""
        function = "free" if text is None else "write"
        return as_int(await ask(self._store, users.put_rules(text), function))

    async def _find(self, name: str) -> StoredUser | None:
        _, found = users.parse_found([name], await ask(self._store, users.find_users([name])))
        return found[name]


async def ask(store: Store, request: Request, function: str = "free") -> Reply:
    """One request, by default also of a Redis that is full. Raises StoreError."""
    (reply,) = await store.call([request], function=function)
    if isinstance(reply, ItemError):
        raise reply
    return reply


def must_go(before: User, after: User) -> bool:
    """Whether clients that came in as this user before may not stay."""
    return not after.is_enabled or (before.hashed, before.scram) != (after.hashed, after.scram)
