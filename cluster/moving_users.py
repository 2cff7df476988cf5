"""Users, rules and bans taken out of a broker and made in another: pages and batches as in `exporting` and
`importing`, and as there nothing is kept between two, and all may be done again.

What is there stays, unless it is to be replaced; who came in by a password that is another one then is
disconnected, as after any change of a user.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import anyio.to_thread

from broker.auth.ban import REASON_CHARACTERS, WHO_CHARACTERS, Target, check_text, target_of
from broker.auth.ban_list import BANS_MAXIMUM, PATTERNS_MAXIMUM
from broker.auth.rules import RULES_BYTES, allow_rules, parse_rules
from broker.auth.scram_keys import keys_mistake
from broker.auth.user import NAME_RULE, is_user_name
from cluster.exporting import Page
from cluster.importing import Summary
from cluster.moved_users import MovedBan, MovedRules, MovedUser, UserRecord, moved_ban, moved_user, user_of
from cluster.store import bans, users
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.reply import as_bytes, as_int, as_text, in_pairs
from cluster.store.store import Store
from cluster.users import RECORD_BYTES, UserBook, must_go

_PER_CALL: Final = 50
_BYTES_OF_BAN: Final = 100
_DAMAGE: Final = (TypeError, ValueError, AttributeError)

R = TypeVar("R")


class UserMover:
    """Reads and writes by side connections. Its methods raise StoreError."""

    def __init__(self, store: Store, book: UserBook) -> None:
        self._store = store
        self._book = book

    # Out

    async def users(self, after: str | None) -> tuple[Page[UserRecord], str | None]:
        """Users behind a name, and the name to go on behind; None after the last page."""
        page = Page[UserRecord]()
        (reply,) = await self._ask([users.users_page(after, _PER_CALL)])
        last = None
        for name, value in in_pairs(reply):
            last = as_text(name)
            stored = users.parse_user(last, as_bytes(value))
            if stored is None:
                page.problems.append(f"user {last} is left out, it can't be read")
            else:
                page.add(moved_user(stored), len(as_bytes(value)))
        return page, last

    async def rules(self) -> Page[UserRecord]:
        """One record, if there are any."""
        page = Page[UserRecord]()
        _, text = await self._book.rules()
        if text is not None:
            page.add(MovedRules(kind="rules", text=text), len(text))
        return page

    async def bans(self, cursor: int) -> tuple[Page[UserRecord], int]:
        """Some of those that hold, and where to go on; 0 after the last page. One may come twice."""
        page = Page[UserRecord]()
        now_ms = await self._store.time_ms()
        cursor, found = await self._store.ban_page(cursor)
        for name, packed in found.items():
            try:
                ban = bans.unpack(name.decode(), packed)
            except _DAMAGE as error:
                page.problems.append(f"ban of {name!r} is left out, it can't be read: {error}")
                continue
            if ban.holds(now_ms):
                page.add(moved_ban(ban, now_ms), _BYTES_OF_BAN)
        return page, cursor

    # In

    async def take(
        self, records: Sequence[UserRecord], summary: Summary, *, replaces: bool, is_dry: bool
    ) -> None:
        """Makes them, and notes what has become of each; if `is_dry`, what would."""
        moved_users = [each for each in records if isinstance(each, MovedUser)]
        for some in _parts([each for each in moved_users if _is_fit(each, summary)]):
            await self._take_users(some, summary, replaces, is_dry)
        for each in records:
            if isinstance(each, MovedRules):
                await self._take_rules(each, summary, replaces, is_dry)
        moved_bans = [each for each in records if isinstance(each, MovedBan) and _is_fit_ban(each, summary)]
        if is_dry and moved_bans:
            await self._look_at_bans(moved_bans, summary, replaces)
        elif moved_bans:
            for part in _parts(moved_bans):
                await self._take_bans(part, summary, replaces)

    async def _take_users(
        self, some: Sequence[MovedUser], summary: Summary, replaces: bool, is_dry: bool
    ) -> None:
        names = [each.name for each in some]
        (reply,) = await self._ask([users.find_users(names)])
        _, found = users.parse_found(names, reply)
        requests: list[Request] = []
        asked: list[tuple[str, str]] = []
        for each in some:
            before, after = found[each.name], user_of(each)
            if before is not None and (before.user == after or not replaces):
                _note(summary, "users", "there")
                continue
            asked.append((each.name, "made" if before is None else "replaced"))
            seen = 0 if before is None else before.version
            renews = before is None or must_go(before.user, after)
            requests.append(users.put_user(each.name, users.pack_user(after), seen, renews=renews))
        replies = [1] * len(requests) if is_dry else await self._ask(requests, "write")
        for (name, outcome), answer in zip(asked, replies, strict=True):
            reason = _REFUSALS.get(as_int(answer))
            if reason is None:
                _note(summary, "users", outcome)
            else:
                _refuse(summary, "users", f"user {name}: {reason}")

    async def _take_rules(self, record: MovedRules, summary: Summary, replaces: bool, is_dry: bool) -> None:
        mistake = await anyio.to_thread.run_sync(partial(_mistake_in, record.text))
        if mistake is not None:
            _refuse(summary, "rules", f"rules: {mistake}")
            return
        _, before = await self._book.rules()
        if before is not None and (before == record.text or not replaces):
            _note(summary, "rules", "there")
            return
        if not is_dry:
            await self._book.replace_rules(record.text)
        _note(summary, "rules", "made" if before is None else "replaced")

    async def _take_bans(self, some: Sequence[MovedBan], summary: Summary, replaces: bool) -> None:
        requests = [
            bans.add(
                Target.of_name(each.target),
                reason=each.reason,
                by=each.by,
                milliseconds=0 if each.lives_ms is None else max(each.lives_ms, 1),
                is_automatic=each.automatic,
                maximum=BANS_MAXIMUM,
                patterns_maximum=PATTERNS_MAXIMUM,
                must_be_new=not replaces,
            )
            for each in some
        ]
        replies = await self._ask(requests, "write")
        for each, reply in zip(some, replies, strict=True):
            added = bans.parse_add(reply, Target.of_name(each.target))
            if added.ban is None:
                _refuse(summary, "bans", f"ban of {each.target}: there are too many")
            else:
                _note(summary, "bans", "made" if added.is_new else "there")

    async def _look_at_bans(self, some: Sequence[MovedBan], summary: Summary, replaces: bool) -> None:
        """Whether they are there, by looking at all: BANS_MAXIMUM at most."""
        missing = {each.target for each in some}
        count, cursor = len(missing), -1
        while cursor and not replaces:
            cursor, page = await self._store.ban_page(max(cursor, 0))
            missing -= {name.decode(errors="replace") for name in page}
        for number in range(count):
            _note(summary, "bans", "made" if number < len(missing) else "there")

    async def _ask(self, requests: Sequence[Request], function: str = "free") -> list[Reply]:
        replies = await self._store.call(requests, function=function) if requests else []
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies


_REFUSALS: Final = {
    users.CONFLICT: "others change it just now, or the one that is there can't be read",
    users.FULL: f"there are {users.USERS_MAXIMUM} already",
}


def _note(summary: Summary, what: str, outcome: str) -> None:
    counts = summary.access.setdefault(what, {"made": 0, "replaced": 0, "there": 0, "refused": 0})
    counts[outcome] += 1


def _refuse(summary: Summary, what: str, problem: str) -> None:
    _note(summary, what, "refused")
    summary.add_problem(problem)


def _is_fit(moved: MovedUser, summary: Summary) -> bool:
    mistake = _mistake_of(moved)
    if mistake is not None:
        _refuse(summary, "users", f"user {moved.name}: {mistake}")
    return mistake is None


def _mistake_of(moved: MovedUser) -> str | None:
    # Not above: argon2 is needed by those who change passwords only.
    from broker.auth.hashing import hash_mistake

    if not is_user_name(moved.name):
        return f"a user name has {NAME_RULE}"
    if moved.rules is not None:
        try:
            allow_rules(moved.rules.publish, moved.rules.subscribe)
        except ValueError:
            return "rules: not lists of Topic Filters"
    user = user_of(moved)
    if len(users.pack_user(user)) > RECORD_BYTES:
        return f"it has more than {RECORD_BYTES} bytes"
    return hash_mistake(moved.hash) or (keys_mistake(user.scram) if user.scram is not None else None)


def _mistake_in(text: str) -> str | None:
    """The first one in these rules."""
    if len(text.encode()) > RULES_BYTES:
        return f"more than {RULES_BYTES} bytes"
    try:
        parse_rules(text)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None


def _is_fit_ban(moved: MovedBan, summary: Summary) -> bool:
    kind, _, value = moved.target.partition(":")
    try:
        target_of(kind, value)
        check_text(moved.reason, REASON_CHARACTERS)
        check_text(moved.by, WHO_CHARACTERS)
    except ValueError as error:
        _refuse(summary, "bans", f"ban of {moved.target}: {error}")
        return False
    return True


def _parts(some: Sequence[R]) -> Iterator[Sequence[R]]:
    """As many as are in a call."""
    for first in range(0, len(some), _PER_CALL):
        yield some[first : first + _PER_CALL]
