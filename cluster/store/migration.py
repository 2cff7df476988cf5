"""Steps from one version of the schema to the next, for the keys that nodes of a newer one can't read.

A step works in pages, each of about a millisecond of Redis, and each may be made twice; after each the
place is noted in Redis (`keys.migration`), so whoever was stopped goes on there. Nodes of the old version
must have left; those of the new one do not start before the step is done (`server.check_schema`). There is
one version so far, and no step.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from cluster.store import keys
from cluster.store.connection import Connection
from cluster.store.errors import SchemaTooNew, StoreStartError
from cluster.store.library import SCHEMA_VERSION
from cluster.store.server import schema_version


@dataclass(frozen=True, slots=True)
class Progress:
    """A page that was made, or looked at: how many keys it has changed, or would; `cursor`: where the next
    one begins, None after the last."""

    changed: int
    cursor: str | None


Page = Callable[[Connection, str, str, bool], Awaitable[Progress]]
"""Of a connection, the prefix, the cursor ("" for the first), and whether it only looks."""


@dataclass(frozen=True, slots=True)
class Step:
    """Leads from a version to the next one."""

    what: str
    page: Page


STEPS: Final[Mapping[int, Step]] = {}
"""By the version from which they lead."""


class MigrationError(StoreStartError):
    """It can't be done now; the text says why."""


class Migration:
    """To `target`, by these steps."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        tell: Callable[[str], None],
        steps: Mapping[int, Step] = STEPS,
        target: int = SCHEMA_VERSION,
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self._tell = tell
        self._steps = steps
        self._target = target

    async def run(self, *, is_dry: bool = False) -> None:
        """Makes what is to be done, or only tells it. Raises MigrationError, SchemaTooNew, StoreError."""
        name = keys.schema(self._prefix)
        version = await schema_version(self._connection, name)
        if version is None:
            raise MigrationError(
                f"{self._connection.address}: {name} is not there: no broker has this prefix"
            )
        self._tell(f"schema {version}; this release has {self._target}")
        if version > self._target:
            raise SchemaTooNew(f"{self._connection.address}: a newer release has been here")
        if version == self._target:
            self._tell("nothing to do")
            return
        await self._check_members(is_dry)
        while version < self._target:
            await self._make(version, is_dry)
            version += 1

    async def _check_members(self, is_dry: bool) -> None:
        """A node that was killed is a member until others have reaped it."""
        found = await self._connection.ask_one("ZRANGE", keys.nodes(self._prefix), 0, -1)
        members = ", ".join(member.decode() for member in cast(list[bytes], found))
        if members and is_dry:
            self._tell(f"nodes would have to leave first: {members}")
        elif members:
            raise MigrationError(
                f"nodes have not left: {members}; drain them. One that was killed is gone when a node of its"
                " release has been started and stopped again"
            )

    async def _make(self, version: int, is_dry: bool) -> None:
        step = self._steps.get(version)
        changed = 0
        if step is not None:
            cursor: str | None = await self._noted(version)
            if cursor and not is_dry:
                self._tell(f"{version} to {version + 1}: goes on where it was stopped")
            while cursor is not None:
                progress = await step.page(self._connection, self._prefix, cursor, is_dry)
                changed += progress.changed
                cursor = progress.cursor
                if not is_dry and cursor is not None:
                    await self._connection.ask_one("SET", keys.migration(self._prefix), f"{version} {cursor}")
        what = step.what if step is not None else "no key changes"
        self._tell(f"{version} to {version + 1}: {what}: {changed} keys{' would change' if is_dry else ''}")
        if not is_dry:
            await self._connection.ask_one("SET", keys.schema(self._prefix), version + 1)
            await self._connection.ask_one("DEL", keys.migration(self._prefix))

    async def _noted(self, version: int) -> str:
        """Where an earlier run was stopped; else the beginning."""
        noted = await self._connection.ask_one("GET", keys.migration(self._prefix))
        if not isinstance(noted, bytes):
            return ""
        of, _, cursor = noted.decode().partition(" ")
        return cursor if of == str(version) else ""
