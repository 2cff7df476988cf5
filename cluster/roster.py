"""What a node knows of the users in Redis, and of the rules there.

Theory of operation. Redis is asked a few times a second who has changed: one small question, whose answer is
the names (`users:log`). So nothing that was said can get lost, as it might on a channel; and it shows how old
what is remembered may be. While Redis does not answer, nothing that is remembered counts, and whoever asks
for a user is told that the store is away. Users that nobody has asked for are not in memory.

Questions of one moment are one request. An answer from before a change that is known by now is given to
nobody: it is asked again. So who has looked at the clients of a user after a change has seen all that came in
by what was there before.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import TaskStatus

from broker.auth.user import StoredUser
from cluster.store import users
from cluster.store.errors import NodeGone, StoreError, StoreUnavailable
from cluster.store.reply import as_bytes
from cluster.store.store import Store
from cluster.store.users import Changes
from cluster.users import ask

LOOK_SECONDS: Final = 0.3
TRUST_SECONDS: Final = 1.5
"""For how long after Redis has been asked what is remembered counts."""
ANSWER_SECONDS: Final = 3.0
"""How long somebody waits for a user."""
WAITING_MAXIMUM: Final = 10_000
"""Users that are waited for."""
USERS_AT_A_TIME: Final = 100
_NAMES_AT_A_TIME: Final = 1000
_SECRET_BYTES: Final = 32
_ATTEMPTS: Final = 5

logger = logging.getLogger(__name__)


OnUsers = Callable[[Collection[str] | None], Awaitable[None]]
"""These users may have changed; None: any may have. If it raises StoreError it is told again."""
OnRules = Callable[[str | None], Awaitable[None]]
"""What the rules are now; None: there are none."""


@dataclass(frozen=True, slots=True)
class Followers:
    """Who is told of changes; what nobody is told of is not followed. `wants_secret`: somebody asks for that,
    be there users to follow or not."""

    on_users: OnUsers | None
    on_rules: OnRules | None
    wants_secret: bool = False


class Roster:
    """`entries_maximum` users are remembered, and as many names of users that there aren't: guesses push
    nobody out."""

    def __init__(self, entries_maximum: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries_maximum = entries_maximum
        self._clock = clock
        self._store: Store | None = None  # of the incarnation that runs
        self._users: OrderedDict[str, StoredUser] = OrderedDict()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._wanted: dict[str, asyncio.Future[StoredUser | StoreError | None]] = {}
        self._is_wanted = asyncio.Event()
        self._seen = -1
        self._untold: set[str] | None = set()  # changed, and `on_users` does not know; None: anybody
        self._rules_version = -1
        self._looked_at = float("-inf")
        self.secret = b""
        """The same on all nodes, and after their restart; there as soon as somebody may be asked for."""

    async def find(self, name: str) -> StoredUser | None:
        """A user as it is now, or was a moment ago. Raises StoreUnavailable."""
        if self._is_current():
            known = self._users.get(name)
            if known is not None:
                self._users.move_to_end(name)
                return known
            if name in self._absent:
                return None
        waiting = self._wanted.get(name)
        if waiting is None:
            if len(self._wanted) >= WAITING_MAXIMUM:
                raise StoreUnavailable("too many users are waited for")
            waiting = self._wanted[name] = asyncio.get_running_loop().create_future()
            self._is_wanted.set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await asyncio.shield(waiting)
        except TimeoutError:
            raise StoreUnavailable(f"no answer for {ANSWER_SECONDS:g} s") from None
        if isinstance(found, StoreError):
            raise StoreUnavailable(str(found))
        return found

    async def find_all(self, names: Iterable[str]) -> dict[str, StoredUser | None]:
        """Users as they are now. Raises StoreError."""
        found: dict[str, StoredUser | None] = {}
        remaining = list(names)
        while remaining:
            found |= await self._read(remaining[:USERS_AT_A_TIME])
            del remaining[:USERS_AT_A_TIME]
        return found

    async def run(
        self, store: Store, followers: Followers, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Follows what is in the store until cancelled. `started` when `followers` know all that there is."""
        self._store = store
        self._seen = self._rules_version = -1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._answer)
            await self._follow(store, followers, task_status)

    async def _follow(self, store: Store, followers: Followers, task_status: TaskStatus[None]) -> None:
        is_first = True
        trouble = ""
        while True:
            try:
                await self._look(store, followers)
            except NodeGone:
                raise
            except StoreError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    logger.warning("users and rules in Redis can't be followed: %s", trouble)
            else:
                if trouble:
                    trouble = ""
                    logger.warning("users and rules in Redis are followed again")
                if is_first:
                    is_first = False
                    task_status.started()
                if followers.on_users is None and followers.on_rules is None:
                    return
            await anyio.sleep(LOOK_SECONDS)

    async def _look(self, store: Store, followers: Followers) -> None:
        if not self.secret and (followers.wants_secret or followers.on_users is not None):
            fresh = secrets.token_bytes(_SECRET_BYTES)
            self.secret = as_bytes(await ask(store, users.users_secret(fresh)))
        if followers.on_users is not None:
            await self._look_for_users(store, followers.on_users)
        if followers.on_rules is not None:
            version, text = users.parse_rules(await ask(store, users.read_rules(self._rules_version)))
            if version != self._rules_version:
                await followers.on_rules(text)
                self._rules_version = version

    async def _look_for_users(self, store: Store, on_users: OnUsers) -> None:
        names = _NAMES_AT_A_TIME
        while names == _NAMES_AT_A_TIME:
            asked_at = self._clock()
            changes = users.parse_changes(await ask(store, users.follow_users(self._seen, _NAMES_AT_A_TIME)))
            names = len(changes.names)
            self._note(changes)
            self._looked_at = asked_at
        if self._untold is None or self._untold:
            untold, self._untold = self._untold, set()
            try:
                await on_users(untold)
            except StoreError:
                self._untold = untold  # nothing else has changed it meanwhile
                raise

    def _note(self, changes: Changes) -> None:
        """At once, before anything else: answers that are older don't count from now on."""
        self._seen = changes.version
        if not changes.is_complete:
            self._users.clear()
            self._absent.clear()
            self._untold = None
            return
        self._drop(changes.names)
        if self._untold is not None:
            self._untold.update(changes.names)

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._users.pop(name, None)
            self._absent.pop(name, None)

    def _is_current(self) -> bool:
        return self._clock() - self._looked_at < TRUST_SECONDS

    async def _answer(self) -> None:
        """Reads the users that somebody waits for."""
        while True:
            await self._is_wanted.wait()
            names = list(self._wanted)[:USERS_AT_A_TIME]
            found: dict[str, StoredUser | None] = {}
            failure: StoreError | None = None
            try:
                found = await self._read(names)
            except StoreError as error:
                failure = error
            for name in names:
                waiting = self._wanted.pop(name)
                if not waiting.done():
                    waiting.set_result(failure if failure is not None else found[name])
            if not self._wanted:
                self._is_wanted.clear()

    async def _read(self, names: list[str]) -> dict[str, StoredUser | None]:
        store = self._store
        if store is None:
            raise StoreUnavailable("not reached yet")
        for _ in range(_ATTEMPTS):
            version, found = users.parse_found(names, await ask(store, users.find_users(names)))
            if version >= self._seen:
                for name, user in found.items():
                    self._remember(name, user)
                return found
        raise StoreUnavailable("has lost changes of users, or too many are made")

    def _remember(self, name: str, user: StoredUser | None) -> None:
        self._drop([name])
        if user is not None:
            self._users[name] = user
        else:
            self._absent[name] = None
        for entries in (self._users, self._absent):
            if len(entries) > self._entries_maximum:
                entries.popitem(last=False)
