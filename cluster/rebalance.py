"""Evening out by itself: after a scale-out new nodes would wait for clients that happen to reconnect.

One process of all has the turn. It looks at the cluster every few seconds, and lets overloaded nodes send
away a few clients at a time, from a budget per minute. Never during a roll: who was moved then would be moved
again a moment later. So any change of the members, one that drains, is dead or starts, or two releases side
by side, ends it, until the cluster has been quiet for a while.

An order names how many clients are to be left, so two processes that both believe to have the turn do no
harm.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import anyio

from cluster.control import Control, ControlError, Desk, NodeState, surplus
from cluster.store.errors import StoreError

LOOK_SECONDS: Final = 5.0
SHED_SECONDS: Final = 3.0
"""Within which an order is carried out: what nodes say of themselves is a second old at the next look, and
what is still under way then is ordered, and counted, again."""
TURN_SECONDS: Final = 20
CHORE: Final = "rebalance"

logger = logging.getLogger(__name__)


class Turn(Protocol):
    """The right to do what one process of all has to do."""

    async def hold(self) -> bool:
        """Takes or renews it for TURN_SECONDS; whether it is ours. Never raises: no answer is a no."""

    async def release(self) -> None:
        """Gives it back, if it is ours."""


class RedisTurn:
    """By a key in Redis that expires; for whoever has no Kubernetes. `us` names this process."""

    def __init__(self, desk: Desk, us: str) -> None:
        self._desk = desk
        self._us = us

    async def hold(self) -> bool:
        """See Turn."""
        return await self._take(TURN_SECONDS)

    async def release(self) -> None:
        """See Turn."""
        await self._take(0)

    async def _take(self, seconds: int) -> bool:
        control = self._desk.control
        try:
            return control is not None and await control.take_turn(CHORE, self._us, seconds)
        except StoreError as error:
            logger.debug("no turn: %s", error)
            return False


class Quiet:
    """Since when nothing has changed among the members."""

    def __init__(self) -> None:
        self._members: frozenset[tuple[str, int]] = frozenset()
        self._since = float("-inf")

    def seconds(self, nodes: Sequence[NodeState], now: float) -> float:
        """How long it has been so; 0 while something is under way. To be asked again and again."""
        members = frozenset(
            (node.incarnation, node.info.started_ms if node.info is not None else 0) for node in nodes
        )
        if members != self._members or not is_settled(nodes):
            self._members = members
            self._since = now
        return now - self._since


def is_settled(nodes: Sequence[NodeState]) -> bool:
    """Whether all members serve, and are of one release."""
    infos = [node.info for node in nodes if node.takes_clients and node.info is not None]
    return (
        len(infos) == len(nodes)
        and all(info.started_ms for info in infos)
        and len({info.version for info in infos}) <= 1
    )


def portions(surplus_by_node: Mapping[str, int], allowance: int) -> dict[str, int]:
    """How many of its surplus each node may shed now: the largest first, together no more than allowed."""
    found: dict[str, int] = {}
    for node, count in sorted(surplus_by_node.items(), key=lambda item: (-item[1], item[0])):
        portion = min(count, allowance)
        if portion:
            found[node] = portion
            allowance -= portion
    return found


class Budget:
    """Clients that may be sent away: so many a minute, not saved up over more than one look."""

    def __init__(self, clients_per_minute: float) -> None:
        self.clients_per_minute = clients_per_minute
        self._allowance = 0.0

    def allow(self, seconds: float) -> int:
        """After so many seconds."""
        per_second = self.clients_per_minute / 60
        most = max(1.0, per_second * LOOK_SECONDS)
        self._allowance = min(self._allowance + per_second * seconds, most)
        return int(self._allowance)

    def spend(self, clients: int) -> None:
        """They were told to go."""
        self._allowance -= clients


class Rebalancer:
    """With 0 clients a minute it does nothing, and others may have the turn. `on_shed` is told how many
    clients were sent away, `on_turn` whether this process has the turn."""

    def __init__(
        self,
        desk: Desk,
        turn: Turn,
        clients_per_minute: float,
        quiet_seconds: float,
        tolerance: float,
        on_shed: Callable[[int], None],
        on_turn: Callable[[bool], None],
    ) -> None:
        self._desk = desk
        self._turn = turn
        self._budget = Budget(clients_per_minute)
        self._quiet_seconds = quiet_seconds
        self._tolerance = tolerance
        self._on_shed = on_shed
        self._on_turn = on_turn
        self._quiet = Quiet()
        self._has_turn = False

    def change(self, clients_per_minute: float, quiet_seconds: float, tolerance: float) -> None:
        """From the next look on."""
        self._budget.clients_per_minute = clients_per_minute
        self._quiet_seconds = quiet_seconds
        self._tolerance = tolerance

    async def run(self) -> None:
        """Until cancelled or told to stop; then gives the turn back."""
        while not await self._is_told_to_stop():
            if not self._budget.clients_per_minute:
                await self._give_back()
                continue
            self._note_turn(await self._turn.hold())
            if self._has_turn and (control := self._desk.control) is not None:
                try:
                    await self.look(control, time.monotonic())
                except StoreError as error:
                    logger.debug("not rebalanced: %s", error)
        await self._give_back()

    async def _give_back(self) -> None:
        if self._has_turn:
            self._note_turn(False)
            await self._turn.release()

    async def _is_told_to_stop(self) -> bool:
        """Waits until then, or until it is time for a look."""
        with anyio.move_on_after(LOOK_SECONDS):
            await self._desk.wait_until_stopping()
        return self._desk.is_stopping

    async def look(self, control: Control, now: float) -> None:
        """One step, if it is time for one. Raises StoreError."""
        nodes = await control.nodes()
        quiet_seconds = self._quiet.seconds(nodes, now)
        allowance = self._budget.allow(LOOK_SECONDS)
        if quiet_seconds < self._quiet_seconds:
            return
        clients = {node.incarnation: node.info.sessions for node in nodes if node.info is not None}
        for incarnation, count in portions(surplus(clients, self._tolerance), allowance).items():
            keep = clients[incarnation] - count
            try:
                await control.shed(incarnation, keep, clients_per_second=count / SHED_SECONDS)
            except ControlError as error:
                logger.warning("not rebalanced: %s", error)
                continue
            self._budget.spend(count)
            self._on_shed(count)
            logger.info("evening out", extra={"incarnation": incarnation, "shed": count, "keep": keep})

    def _note_turn(self, has_turn: bool) -> None:
        if has_turn != self._has_turn:
            logger.info("has the turn to rebalance" if has_turn else "no turn to rebalance any more")
            self._quiet = Quiet()
        self._has_turn = has_turn
        self._on_turn(has_turn)
