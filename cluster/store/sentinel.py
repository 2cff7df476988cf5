"""Finds the primary by Sentinel, and notices when it is another.

Theory of operation. Whoever needs a connection asks all sentinels at once, on connections that are kept; what
counts of their answers says `election`. The server is asked for its role, too, before it is used (`access`).
Nobody waits long for a sentinel: one that is slow or away is passed over as soon as most have answered.

A node must leave a primary that has been replaced even if it still answers: cut off from its sentinels it
would take writes that are lost when it comes back. So all sentinels are asked once a second; and we listen to
what they tell of a fail-over, and ask at once. In a planned one the old primary goes on for a second or more
after its successor has been told to take over. We leave at the moment when it is told, and wait until the
sentinels name it: what is written meanwhile would be lost.

What nobody can see from here: a node that sees a minority of the sentinels only, and with them a primary on
the wrong side of a partition. Against that `min-replicas-to-write` helps (docs/redis.md).
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

import anyio

from cluster.store.call import pack_command
from cluster.store.channels import ChannelConnection
from cluster.store.connection import Connection, open_connection, open_connection_of
from cluster.store.election import Answer, Election
from cluster.store.endpoint import Endpoint
from cluster.store.errors import InvalidRedisUrl, StoreError, StoreStartError, StoreUnavailable
from cluster.store.finder import Leave
from cluster.store.reply import as_list, as_text, in_pairs

PATIENCE_SECONDS: Final = 0.5
"""For all that one sentinel has to say in a round; less than any useful down-after-milliseconds."""
_GRACE_SECONDS: Final = 0.05
"""For the others, when most have answered and somebody waits."""
_INTERVAL_SECONDS: Final = 1.0
_LISTEN_AGAIN_SECONDS: Final = 2.0
_HOLD_SECONDS: Final = 4.0
"""Between the order to take over and the sentinels' word that it is done; they look once a second."""
_CLIENT_NAME: Final = "moorline-finder"

_TAKING_OVER: Final = b"+failover-state-send-slaveof-noone"
EVENTS: Final = (
    _TAKING_OVER.decode(),
    "+promoted-slave",
    "+failover-state-reconf-slaves",
    "+switch-master",
    "-failover-abort-slave-timeout",
)
"""Channels of theirs."""
_COMMANDS: Final = (
    "client|setname", "sentinel|ckquorum", "sentinel|get-master-addr-by-name", "sentinel|master", "subscribe",
)  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """What a sentinel sees. `sentinels`: itself and those that it knows, be they away or not. `is_down`: it
    takes the primary for dead, if only by itself."""

    answer: Answer
    replicas: int
    sentinels: int
    quorum: int
    down_after_seconds: float
    is_down: bool


class Sentinel:
    """One of them. `endpoint` has the name of the primary, too."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: Connection | None = None
        self.trouble: StoreError | None = None
        """Why it has not answered the last time."""

    def __str__(self) -> str:
        return str(self._endpoint)

    async def ask(self) -> Answer:
        """Where the primary is. Raises StoreError."""
        return (await self.look()).answer

    async def look(self) -> "View":
        """All that it says of the primary and its replicas. Raises StoreError."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = await open_connection(
                self._endpoint, _CLIENT_NAME, PATIENCE_SECONDS, PATIENCE_SECONDS
            )
        # The epoch first: should it change in between, then the address is the newer of the two.
        name = self._endpoint.master_name
        commands = pack_command("SENTINEL", "MASTER", name)
        commands += pack_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        state, address = await connection.ask(commands, 2)
        if address is None:
            raise InvalidRedisUrl(f"{self}: knows no primary with the name {name!r}")
        for reply in (state, address):
            if isinstance(reply, StoreError):
                raise type(reply)(f"{self}: {reply}")
        fields = {as_text(key): as_text(value) for key, value in in_pairs(state)}
        host, port = map(as_text, as_list(address))
        return View(
            answer=Answer(host, int(port), int(fields.get("config-epoch", "0"))),
            replicas=int(fields.get("num-slaves", "0")),
            sentinels=int(fields.get("num-other-sentinels", "0")) + 1,
            quorum=int(fields.get("quorum", "0")),
            down_after_seconds=int(fields.get("down-after-milliseconds", "0")) / 1000,
            is_down=not fields.keys().isdisjoint(("s-down-time", "o-down-time")),
        )

    async def listen(self, events: "Events") -> None:
        """Until the connection ends. Raises StoreError."""
        connection = await open_connection_of(
            ChannelConnection, self._endpoint, _CLIENT_NAME, PATIENCE_SECONDS, PATIENCE_SECONDS
        )
        try:
            await connection.listen(EVENTS, events.take)
            await connection.until_closed()
        finally:
            connection.abort("not listening")

    def note(self, trouble: StoreError | None) -> None:
        """Tells it once, and that it is over."""
        before, self.trouble = self.trouble, trouble
        if trouble is not None and str(trouble) != str(before or ""):
            logger.warning("a sentinel does not tell where Redis is: %s", trouble)
        elif trouble is None and before is not None:
            logger.info("sentinel %s tells again where Redis is", self)

    async def check_quorum(self) -> None:
        """Raises CallFailed if too few sentinels are there for a fail-over; StoreError. After `look` only."""
        assert self._connection is not None
        await self._connection.ask_one("SENTINEL", "CKQUORUM", self._endpoint.master_name)

    def close(self) -> None:
        """Ends its connection."""
        if self._connection is not None:
            self._connection.abort("closed")


class Events:
    """What sentinels tell of the primary with this name."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._happened = anyio.Event()
        self.is_taking_over = False
        """Another server has been told to be the primary."""

    def take(self, event: bytes, text: bytes) -> None:
        """Must not raise. The name comes first (`+switch-master`), behind an @ (of a replica), or second."""
        words = text.split()
        at = words.index(b"@") if b"@" in words else 0
        place = 0 if event == b"+switch-master" else at + 1
        if words[place : place + 1] == [self._name]:
            self.is_taking_over = event == _TAKING_OVER
            self._happened.set()

    async def wait(self) -> None:
        """For the next one."""
        with anyio.move_on_after(_INTERVAL_SECONDS):
            await self._happened.wait()
        self._happened = anyio.Event()


class SentinelFinder:
    """A Finder. `place` has sentinels."""

    def __init__(self, place: Endpoint) -> None:
        self._place = place
        self._sentinels = [Sentinel(endpoint) for endpoint in place.sentinels]
        self._election = Election(len(self._sentinels))
        self._events = Events(place.master_name)
        self._lock = anyio.Lock()
        self._round_began = 0.0
        self._left: tuple[str, int] | None = None
        self._left_until = 0.0

    def __str__(self) -> str:
        return str(self._place)

    async def primary(self) -> Endpoint:
        """See Finder. Who asks while a round is under way waits for the next, which serves all of them."""
        came = time.monotonic()
        async with self._lock:
            if self._round_began < came:
                await self._ask_all(is_waited_for=True)
        return self._known()

    async def watch(self, leave: Leave) -> None:
        """See Finder."""
        async with anyio.create_task_group() as tasks:
            for sentinel in self._sentinels:
                tasks.start_soon(self._listen, sentinel)
            while True:
                await self._events.wait()
                if self._events.is_taking_over:
                    self._events.is_taking_over = False
                    self._leave_for_another(leave)
                async with self._lock:
                    await self._ask_all(is_waited_for=False)
                try:
                    leave(self._known())
                except StoreError as error:
                    logger.debug("no primary now: %s", error)

    def close(self) -> None:
        """See Finder."""
        for sentinel in self._sentinels:
            sentinel.close()

    def _leave_for_another(self, leave: Leave) -> None:
        chosen = self._election.chosen
        if chosen is not None:
            old = self._place.at(*chosen.address)
            logger.warning("another server than %s is made the primary of Redis: waiting for it", old)
            self._left, self._left_until = chosen.address, time.monotonic() + _HOLD_SECONDS
            leave(None)

    def _known(self) -> Endpoint:
        """Raises StoreUnavailable, StoreStartError."""
        chosen = self._election.chosen
        troubles = [sentinel.trouble for sentinel in self._sentinels if sentinel.trouble is not None]
        if chosen is None:
            if troubles and len(troubles) == len(self._sentinels) and _needs_a_person(troubles):
                raise type(troubles[0])(_joined(troubles))
            raise StoreUnavailable(f"no sentinel tells where Redis is: {_joined(troubles)}")
        if chosen.address == self._left and time.monotonic() < self._left_until:
            raise StoreUnavailable(f"{self._place.at(*chosen.address)}: its successor is taking over")
        return self._place.at(*chosen.address)

    async def _ask_all(self, *, is_waited_for: bool) -> None:
        self._round_began = time.monotonic()
        answers: list[Answer] = []
        have_most, have_all = anyio.Event(), anyio.Event()
        asked = len(self._sentinels)
        is_told = 0

        async def ask(sentinel: Sentinel) -> None:
            nonlocal is_told
            try:
                with anyio.fail_after(PATIENCE_SECONDS):
                    answers.append(await sentinel.ask())
                sentinel.note(None)
            except TimeoutError:
                sentinel.note(StoreUnavailable(f"{sentinel}: no answer within {PATIENCE_SECONDS:g} s"))
            except StoreError as error:
                sentinel.note(error)
            is_told += 1
            if is_waited_for and len(answers) * 2 > asked:
                have_most.set()
            if is_told == asked:
                have_most.set()
                have_all.set()

        async with anyio.create_task_group() as asking:
            for sentinel in self._sentinels:
                asking.start_soon(ask, sentinel)
            await have_most.wait()
            with anyio.move_on_after(_GRACE_SECONDS):
                await have_all.wait()
            asking.cancel_scope.cancel()
        self._count(answers)

    def _count(self, answers: list[Answer]) -> None:
        before = self._election.chosen
        chosen = self._election.count(answers, time.monotonic())
        if before is not None and chosen is not None and chosen.address != before.address:
            agree = sum(answer.address == chosen.address for answer in answers)
            logger.warning(
                "Redis has another primary: %s in place of %s (said by %d of %d sentinels, epoch %d)",
                self._place.at(*chosen.address),
                self._place.at(*before.address),
                agree,
                len(self._sentinels),
                chosen.epoch,
            )

    async def _listen(self, sentinel: Sentinel) -> None:
        """Whatever happens to it is told by who asks."""
        while True:
            try:
                await sentinel.listen(self._events)
            except StoreError as error:
                logger.debug("not listening to a sentinel: %s", error)
            await anyio.sleep(_LISTEN_AGAIN_SECONDS)


def access_list() -> str:
    """Of a sentinel, for `ACL SETUSER name on >password ...` there."""
    channels = " ".join(f"&{event}" for event in EVENTS)
    return f"resetchannels {channels} -@all {' '.join(f'+{command}' for command in _COMMANDS)}"


def _needs_a_person(troubles: list[StoreError]) -> bool:
    return all(isinstance(trouble, StoreStartError) for trouble in troubles)


def _joined(troubles: list[StoreError]) -> str:
    return "; ".join(map(str, troubles))
