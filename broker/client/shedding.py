"""Sending clients away, at a pace: all of them when the node stops, a surplus when the cluster is rebalanced.

A client that is sent away has been disconnected by the server: its session is given back at once, for any
node to take up, and its will is due like after any other end of a connection without a DISCONNECT of the
client [MQTT-3.1.2-8]; one with a delay is not sent if the client is back before that [MQTT-3.1.3-9].
"""

import random
import time
from collections.abc import Iterable, Sequence
from itertools import islice

import anyio

from broker.client.client import Client
from broker.client.hub import Hub
from broker.mqtt import ReasonCode
from broker.observability.logs import get_logger
from cluster.commands import Shed
from cluster.drain import CLOSING_SHARE, TELLING_SHARE, rate_within, shed

logger = get_logger(__name__)


class Shedder:
    """Of one node. `server_reference` is told to MQTT 5 clients where they should connect instead."""

    def __init__(self, hub: Hub, server_reference: str | None, clients_per_second: float) -> None:
        self._hub = hub
        self._server_reference = server_reference
        self._clients_per_second = clients_per_second
        self._rebalancing = anyio.CancelScope()

    def change(self, server_reference: str | None, clients_per_second: float) -> None:
        """From the next one on."""
        self._server_reference = server_reference
        self._clients_per_second = clients_per_second

    def shed(self, order: Shed) -> None:
        """Begins to send away what there is beyond `order.keep`, chosen at random: no client is more likely
        to be chosen than another. A later order takes the place of one under way."""
        self._rebalancing.cancel()
        clients = [
            client
            for client in self._hub.clients.values()
            if client.session is not None and not client.entrance.is_internal
        ]
        surplus = len(clients) - order.keep
        if surplus <= 0 or self._hub.is_stopping:
            return
        logger.info("rebalancing", extra={"clients": len(clients), "shed": surplus})
        self._rebalancing = anyio.CancelScope()
        rate = order.clients_per_second or self._clients_per_second
        self._hub.spawn(self._shed_surplus(random.sample(clients, surplus), rate, self._rebalancing))

    async def drain(self, moved: bool, timeout_seconds: float) -> None:
        """Sends everybody away, and returns when their connections are closed, or in time for what else is
        to be done within `timeout_seconds`. No new connections may come in."""
        self._rebalancing.cancel()
        closed_by = time.monotonic() + timeout_seconds * CLOSING_SHARE
        reason_code = self._reason_to_stop(moved)
        connections = list(self._hub.connections)
        # Who has not been accepted yet has nothing to lose, and must not take up a session first.
        refusal = (
            ReasonCode.SERVER_UNAVAILABLE if reason_code == ReasonCode.SERVER_SHUTTING_DOWN else reason_code
        )
        self._tell([each for each in connections if each.session is None], refusal, "the node is stopping")
        clients = [each for each in connections if each.session is not None]
        rate = rate_within(len(clients), self._clients_per_second, timeout_seconds * TELLING_SHARE)
        logger.info("draining", extra={"clients": len(clients), "clients_per_second": round(rate, 1)})
        await self._shed(clients, rate, reason_code, "the node is stopping")
        with anyio.move_on_after(closed_by - time.monotonic()):
            await self._until_empty()

    def _reason_to_stop(self, moved: bool) -> ReasonCode:
        if moved:
            return ReasonCode.SERVER_MOVED
        if self._server_reference is not None:
            return ReasonCode.USE_ANOTHER_SERVER
        return ReasonCode.SERVER_SHUTTING_DOWN

    async def _until_empty(self) -> None:
        while self._hub.connections:
            self._hub.empty.clear()
            await self._hub.empty.wait()

    async def _shed_surplus(self, clients: Sequence[Client], rate: float, scope: anyio.CancelScope) -> None:
        with scope:
            await self._shed(clients, rate, ReasonCode.USE_ANOTHER_SERVER, "connect to another node")

    async def _shed(
        self, clients: Sequence[Client], rate: float, reason_code: ReasonCode, reason: str
    ) -> None:
        waiting = iter(clients)
        await shed(len(clients), rate, lambda count: self._tell(islice(waiting, count), reason_code, reason))

    def _tell(self, clients: Iterable[Client], reason_code: ReasonCode, reason: str) -> None:
        """Some of them may have gone by themselves."""
        for client in clients:
            client.close(reason_code, reason, self._server_reference)
        self._hub.after_input()
