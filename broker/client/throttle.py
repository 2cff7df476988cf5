"""Clients that send more than they may: they are read from only as fast as they may send.

Theory of operation: each client has buckets of its own, for messages and bytes, and those of its listener
that all share. What it sends is looked at in slices. A slice is paid for when it has been handled; if tokens
are owed then, nothing more is read until they are paid, and what has been read waits here: less than a chunk.
TCP tells the sender. So a client is over its rate by a slice at most, a shared bucket gives its users their
turns, and nobody's PINGREQ is left out: it waits behind what was sent before it. As long as it is we who do
not read, keep-alive stands still.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from broker.mqtt import Packet, Puback, Pubcomp, Pubrec, Pubrel, ReasonCode
from broker.observability.token_bucket import TokenBucket

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client

_SLICE_BYTES: Final = 1024
_LEAST_SECONDS: Final = 0.01  # who owes less may go on: a timer for each slice would cost too much
_CALM_SECONDS: Final = 1.0
_ACKNOWLEDGEMENTS: Final = (Puback, Pubrec, Pubrel, Pubcomp)


@dataclass(frozen=True, slots=True)
class Rates:
    """Of each client of a listener, a second; 0 for any. `names`: of the settings that say so."""

    messages: float
    bytes: float
    burst_seconds: float
    patience_seconds: float
    """How long a client may be over them without a break; 0: as long as it likes."""
    names: tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Meter:
    bucket: TokenBucket
    counts_bytes: bool
    is_shared: bool
    name: str


@dataclass(frozen=True, slots=True)
class Throttling:
    """Of a listener."""

    rates: Rates
    shared: tuple[_Meter, ...]

    def throttle(self, now: float) -> "Throttle":
        """For one client."""
        rates = self.rates
        own = [
            _meter(rate, rates, now, counts_bytes, False, name)
            for rate, counts_bytes, name in zip(
                (rates.messages, rates.bytes), (False, True), rates.names, strict=True
            )
            if rate
        ]
        return Throttle((*own, *self.shared), rates.patience_seconds)


def _meter(rate: float, rates: Rates, now: float, counts_bytes: bool, is_shared: bool, name: str) -> _Meter:
    return _Meter(TokenBucket(rate, rate * rates.burst_seconds, now), counts_bytes, is_shared, name)


def make_throttling(
    rates: Rates, total_messages: float, total_bytes: float, listener: str, now: float
) -> Throttling | None:
    """None where nothing is limited; `total_`: of all clients of the listener."""
    totals = (
        (total_messages, False, "total_messages_per_second"),
        (total_bytes, True, "total_bytes_per_second"),
    )
    shared = tuple(
        _meter(rate, rates, now, counts_bytes, True, f"listeners.{listener}.{name}")
        for rate, counts_bytes, name in totals
        if rate
    )
    return Throttling(rates, shared) if shared or rates.messages or rates.bytes else None


class Throttle:
    """Of one client."""

    __slots__ = (
        "_calm_at",
        "_is_busy",
        "_meters",
        "_patience_seconds",
        "_position",
        "_since",
        "_timer",
        "_waiting",
        "limit",
    )

    def __init__(self, meters: Sequence[_Meter], patience_seconds: float) -> None:
        self._meters = meters
        self._patience_seconds = patience_seconds
        self._waiting = b""  # what was read; handled up to the position
        self._position = 0
        self._timer: asyncio.TimerHandle | None = None  # until what was handled is paid for
        self._since = 0.0  # when the client began to be over its own rates
        self._calm_at = 0.0  # if it is over them no more until then, that has ended
        self._is_busy = False
        self.limit = ""
        """The setting by which it waits, or has waited."""

    @property
    def must_wait(self) -> bool:
        """Whether nothing may be read now."""
        return self._timer is not None

    def receive(self, client: "Client", chunk: bytes) -> None:
        """Takes in what was read."""
        self._waiting = self._waiting[self._position :] + chunk if self._waiting else chunk
        self._position = 0
        self.go_on(client)

    def go_on(self, client: "Client") -> None:
        """Handles what waits, as far as the client may be read from. What then still waits is less than was
        read at once, as nothing more is read."""
        if self._is_busy:  # with what has led to this call
            return
        self._is_busy = True
        while self._waiting and client.may_be_read():
            piece = self._waiting[self._position : self._position + _SLICE_BYTES]
            self._position += len(piece)
            if self._position == len(self._waiting):
                self._waiting, self._position = b"", 0
            self._pay(client, _count(client.take(piece)), len(piece))
        self._is_busy = False
        if self._waiting:
            client.stop_reading()

    def drain(self, client: "Client") -> None:
        """The connection has ended: what had come before that counts."""
        rest, self._waiting = self._waiting[self._position :], b""
        if rest and not self._is_busy:
            client.take(rest)

    def cancel(self, client: "Client") -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            client.hub.counters.throttled_now -= 1

    def _pay(self, client: "Client", messages: int, size_bytes: int) -> None:
        now = client.hub.tick()
        seconds, name, is_own = _LEAST_SECONDS, "", False
        for meter in self._meters:
            wait = meter.bucket.take(size_bytes if meter.counts_bytes else messages, now)
            is_own = is_own or (wait > _LEAST_SECONDS and not meter.is_shared)
            if wait > seconds:
                seconds, name = wait, meter.name
        if not name or client.is_closed:
            return
        if is_own and self._has_no_patience(now, seconds):
            client.hub.offences.refuse("throttled_seconds", client_id=client.client_id, peer=client.peer)
            client.close(ReasonCode.MESSAGE_RATE_TOO_HIGH, f"more than {name} for too long")
        else:
            self._wait(client, seconds, name)

    def _has_no_patience(self, now: float, seconds: float) -> bool:
        """Whether the client has been over its own rates for too long without a break."""
        if now > self._calm_at:
            self._since = now
        self._calm_at = now + seconds + _CALM_SECONDS
        return 0 < self._patience_seconds < now - self._since

    def _wait(self, client: "Client", seconds: float, name: str) -> None:
        hub = client.hub
        self.limit = name
        hub.offences.slow_down(name, client_id=client.client_id, peer=client.peer)
        hub.counters.throttled_now += 1
        client.stop_reading()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, hub.when_sure, partial(self._resume, client))

    def _resume(self, client: "Client") -> None:
        self.cancel(client)
        client.resume_reading()


def _count(packets: Sequence[Packet]) -> int:
    """Acknowledgements are what we have asked for."""
    return sum(not isinstance(packet, _ACKNOWLEDGEMENTS) for packet in packets)
