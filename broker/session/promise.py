"""What clients are owed, where Redis' answer is not enough: acknowledgements that wait until replicas, or the
disk, have what they stand for.

Theory of operation. What is acknowledged at a level above `STORED` is owed by a `Promise`, which names a
`Confirmation`: one question to the primary, shared by all that was stored at that level while the one before
it was under way. `Promises` are those of one session, in order. Behind one that waits the others of its
session wait, too: acknowledgements keep the order of what they acknowledge [MQTT-4.6.0-2], [MQTT-4.6.0-3];
PUBRELs have an order of their own [MQTT-4.6.0-4]. Neither holds up the page of a queue that waits, as it has
messages at QoS 2, nor does that hold up them.

Another primary may come before the answer, and it may lack what was stored. Then nothing is kept that was not
confirmed: each promise is asked `again` for what it stands for, or waits for a confirmation by that primary.

Sessions have no promises where all is `STORED`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from broker.session.level import STORED, stronger
from broker.session.outbox import Outbox

_ANSWERS: Final = 0
_PUBRELS: Final = 1
_PAGES: Final = 2


class Confirmation:
    """What the primary is asked, or will be: whether all that it had answered until then is kept as `level`
    says. `primary` is who has answered. `count` promises wait for it, of the sessions of `holders`; `waiters`
    are others. `is_void`: another primary has come before the answer."""

    __slots__ = ("count", "holders", "is_done", "is_void", "level", "primary", "waiters")

    def __init__(self, level: int, primary: object) -> None:
        self.level = level
        self.primary = primary
        self.count = 0
        self.holders: dict[Promises, None] = {}
        self.waiters: dict[object, Callable[[], None]] = {}
        self.is_done = False
        self.is_void = False

    def __repr__(self) -> str:
        return f"Confirmation(level={self.level}, count={self.count}, done={self.is_done})"


class Confirmations:
    """Those of a node. `level_of` tells the level of a topic, `strongest` the one of all that are in use;
    `want` is called when there is something to ask at a level. `primary` is whoever has answered what is
    being handled now; `when_kept` is told that nothing is owed any more."""

    __slots__ = ("_gathering", "_under_way", "_want", "level_of", "primary", "strongest", "when_kept")

    def __init__(self, level_of: Callable[[str], int], strongest: int, want: Callable[[int], None]) -> None:
        self.level_of = level_of
        self.strongest = strongest
        self.primary: object = None
        self.when_kept: Callable[[], None] | None = None
        self._want = want
        self._gathering: dict[int, Confirmation] = {}
        self._under_way: dict[int, Confirmation] = {}

    def at(self, level: int) -> Confirmation:
        """The next one of this level: it will cover what is answered by now."""
        confirmation = self._gathering.get(level)
        if confirmation is None:
            confirmation = self._gathering[level] = Confirmation(level, self.primary)
            self._want(level)
        return confirmation

    def take(self, level: int) -> Confirmation | None:
        """The primary is about to be asked; None if nothing waits. What is owed from now on is for the next
        one. It ends with `keep`, or as it becomes void."""
        confirmation = self._gathering.pop(level, None)
        if confirmation is not None:
            self._under_way[level] = confirmation
        return confirmation

    def keep(self, confirmation: Confirmation) -> None:
        """It is confirmed: what was owed leaves."""
        if confirmation.is_void:
            return
        del self._under_way[confirmation.level]
        confirmation.is_done = True
        for promises in confirmation.holders:
            promises.keep()
        for action in list(confirmation.waiters.values()):
            action()
        self.look()

    def turn_over(self, primary: object) -> None:
        """Another primary answers from now on."""
        void = [*self._under_way.values(), *self._gathering.values()]
        self._under_way.clear()
        self._gathering.clear()
        self.primary = primary
        holders: dict[Promises, None] = {}
        for confirmation in void:
            confirmation.is_void = True
            holders.update(confirmation.holders)
            if confirmation.waiters:
                self.at(confirmation.level).waiters.update(confirmation.waiters)
        for promises in holders:
            promises.ask_again()

    def wait(self, level: int, key: object, action: Callable[[], None]) -> Callable[[], None]:
        """Calls `action` when all is confirmed that is answered by now; what is returned calls it at once."""
        confirmation = self.at(level)

        def act() -> None:
            for each in self._open():
                each.waiters.pop(key, None)
            action()
            self.look()

        confirmation.waiters[key] = act
        return act

    def waiting(self, level: int) -> int:
        """How much waits at this level."""
        return sum(each.count + len(each.waiters) for each in self._open() if each.level == level)

    def is_waiting(self) -> bool:
        """Whether anything is owed."""
        return any(each.count or each.waiters for each in self._open())

    def look(self) -> None:
        """Tells whoever wants to know that nothing is owed any more."""
        if self.when_kept is not None and not self.is_waiting():
            self.when_kept()

    def _open(self) -> list[Confirmation]:
        return [*self._under_way.values(), *self._gathering.values()]


class Promise(ABC):
    """A packet that is owed, or a page of them. Without a confirmation it only waits for those before it."""

    __slots__ = ("confirmation",)

    def __init__(self, confirmation: Confirmation | None) -> None:
        self.confirmation = confirmation

    @abstractmethod
    def keep(self) -> None:
        """It may leave."""

    @abstractmethod
    def again(self) -> bool:
        """Another primary may lack what it stands for. True if that is asked for once more, and promised anew
        then; False if it only has to be confirmed again."""

    def is_due(self) -> bool:
        """Whether it may leave as soon as those before it have."""
        return self.confirmation is None or self.confirmation.is_done


class PacketPromise(Promise):
    """A packet that is made already."""

    __slots__ = ("_data", "_outbox")

    def __init__(self, confirmation: Confirmation | None, outbox: Outbox, data: bytes) -> None:
        super().__init__(confirmation)
        self._outbox = outbox
        self._data = data

    def keep(self) -> None:
        self._outbox.send(self._data)

    def again(self) -> bool:
        return False


class ActionPromise(Promise):
    """What others do: `keep_it` when it may leave, `ask_again` on another primary, which has it promised
    anew."""

    __slots__ = ("_ask_again", "_keep_it")

    def __init__(
        self, confirmation: Confirmation | None, keep_it: Callable[[], None], ask_again: Callable[[], None]
    ) -> None:
        super().__init__(confirmation)
        self._keep_it = keep_it
        self._ask_again = ask_again

    def keep(self) -> None:
        self._keep_it()

    def again(self) -> bool:
        self._ask_again()
        return True


class Promises:
    """Of one session. `level` is that of the listener by which its client came."""

    __slots__ = ("_levels_in", "_levels_out", "_queues", "confirmations", "level")

    def __init__(self, confirmations: Confirmations, level: int) -> None:
        self.confirmations = confirmations
        self.level = level
        self._queues: list[deque[Promise]] = [deque(), deque(), deque()]  # answers, PUBRELs, a page
        self._levels_in: dict[int, int] = {}  # of QoS 2 messages of the client, by Packet Identifier
        self._levels_out: dict[int, int] = {}  # of those to the client, by number, if their topic has one

    def __repr__(self) -> str:
        return f"Promises(level={self.level}, {len(self._queues[0])} answers, {len(self._queues[1])} PUBRELs)"

    def level_of(self, topic: str) -> int:
        """Of a message of this client, or to it."""
        return stronger(self.level, self.confirmations.level_of(topic))

    def confirmation(self, level: int) -> Confirmation | None:
        """For what is promised now; None if it is enough that it is stored."""
        return None if level == STORED else self.confirmations.at(level)

    def must_wait(self, level: int) -> bool:
        """Whether an answer at this level can't leave at once."""
        return level != STORED or bool(self._queues[_ANSWERS])

    def owe(self, promise: Promise) -> None:
        """An answer, behind those that are owed."""
        self._owe(_ANSWERS, promise)

    def must_hold_pubrel(self, level: int) -> bool:
        """Whether a PUBREL at this level can't leave at once."""
        return level != STORED or bool(self._queues[_PUBRELS])

    def owe_pubrel(self, promise: Promise) -> None:
        """A PUBREL, behind those that are owed."""
        self._owe(_PUBRELS, promise)

    def owe_page(self, promise: Promise) -> None:
        """What was read from the session's queue. One page is read at a time."""
        self._owe(_PAGES, promise)

    def send(self, outbox: Outbox, data: bytes, level: int) -> None:
        """Sends an answer, now or when it is its turn."""
        if self.must_wait(level):
            self.owe(PacketPromise(self.confirmation(level), outbox, data))
        else:
            outbox.send(data)

    def keep(self) -> None:
        """Sends what may leave."""
        for queue in self._queues:
            while queue and queue[0].is_due():
                queue.popleft().keep()

    def ask_again(self) -> None:
        """Another primary has come. What is confirmed already, but had to wait, is asked for again, too, if
        it can be: else it would come before what it has waited for."""
        for queue in self._queues:
            promises = list(queue)
            queue.clear()
            for promise in promises:
                if promise.again():
                    continue
                was = promise.confirmation
                if was is not None and not was.is_done:
                    promise.confirmation = self.confirmations.at(was.level)
                    self._count(promise.confirmation)
                queue.append(promise)
        self.keep()

    def abandon(self) -> None:
        """The connection has ended: nothing is owed any more. What was not acknowledged the client sends
        again."""
        for queue in self._queues:
            for promise in queue:
                confirmation = promise.confirmation
                if confirmation is not None and not confirmation.is_done:
                    confirmation.count -= 1
                    confirmation.holders.pop(self, None)
            queue.clear()
        self.confirmations.look()

    # Levels of QoS 2 exchanges, which end long after their message has come

    def begin_in(self, packet_id: int, level: int) -> None:
        """A message of the client: its PUBCOMP is to be as safe as its PUBREC."""
        self._levels_in[packet_id] = level

    def end_in(self, packet_id: int) -> int:
        """The level of that exchange. One that an earlier connection began may have been of any."""
        return stronger(self.level, self._levels_in.pop(packet_id, self.confirmations.strongest))

    def begin_out(self, n: int, topic: str) -> None:
        """A message to the client."""
        level = self.confirmations.level_of(topic)
        if level != STORED:
            self._levels_out[n] = level

    def end_out(self, n: int) -> int:
        """The level of that exchange."""
        return stronger(self.level, self._levels_out.pop(n, STORED))

    def keep_out(self, n: int, level: int) -> None:
        """It goes on."""
        self._levels_out[n] = level

    def _owe(self, place: int, promise: Promise) -> None:
        self._queues[place].append(promise)
        if promise.confirmation is not None:
            self._count(promise.confirmation)

    def _count(self, confirmation: Confirmation) -> None:
        confirmation.count += 1
        confirmation.holders[self] = None
