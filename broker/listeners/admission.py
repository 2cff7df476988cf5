"""Who may come in, by addresses and numbers: asked before there is anything of a connection but its socket.

Theory of operation: a listener asks its `Gate` for each connection that it has accepted, and gets a `Visit`
or None, which means: close it. The visit is told when the client has sent its CONNECT (`settle`), and when
the connection has ended, however far it got (`leave`). Until CONNECT a connection is half-open, and beyond it
while an Authentication Method is gone through (`authenticate`); if there are too many of these the oldest is
closed for the one that comes. Where it is the node or the listener that has
too much to do, nobody is closed: the gate tells how long to take no more, and they wait in the kernel.

What is kept of an address ends with its last connection, but for its rate: of these the latest are kept.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.auth.address import network_of
from broker.observability.offences import Offences
from broker.observability.token_bucket import TokenBucket

ADDRESSES_MAXIMUM: Final = 65_536
"""Whose rates are kept."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """As in the settings, where 0 is no limit."""

    connections_maximum: int
    per_address: int
    half_open: int
    per_second: float
    per_second_per_address: float
    burst_seconds: float


class Admission:
    """All connections of a node. `is_closed`: nobody may come in, as memory is short."""

    def __init__(
        self, limits: AdmissionLimits, offences: Offences, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.offences = offences
        self.clock = clock
        self.is_closed = False
        self.open = 0
        self.half_open: dict[Visit, None] = {}  # oldest first
        self.authenticating = 0  # of those
        self.gates: list[Gate] = []
        self._by_address: Counter[str] = Counter()
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()
        self.bucket = bucket_of(limits.per_second, limits.burst_seconds, clock())

    def change(self, limits: AdmissionLimits) -> None:
        """From now on. Nobody is sent away."""
        self.limits = limits
        self._rates.clear()
        self.bucket = bucket_of(limits.per_second, limits.burst_seconds, self.clock())

    def gate(self, name: str, connections_maximum: int, per_second: float) -> "Gate":
        """For a listener, which may have limits of its own."""
        bucket = bucket_of(per_second, self.limits.burst_seconds, self.clock())
        made = Gate(self, name, connections_maximum, bucket)
        self.gates.append(made)
        return made

    def refusal(self, address: str) -> str | None:
        """The limit, by its name, by which nobody may come from there now; counts it for its rate."""
        limits = self.limits
        if self.is_closed:
            return "memory_high_water_bytes"
        if self.open >= limits.connections_maximum:
            return "connections_maximum"
        return self.refusal_of_address(address)

    def refusal_of_address(self, address: str) -> str | None:
        """The same, as far as it is about the address."""
        limits = self.limits
        if not address:
            return None
        if limits.per_address and self._by_address[address] >= limits.per_address:
            return "connections_per_address"
        if limits.per_second_per_address and not self._rate(address).take_if_there(self.clock()):
            return "connects_per_second_per_address"
        return None

    def count_in(self, address: str) -> bool:
        """One more from there; whether it is kept, which it isn't where nothing asks for it."""
        if not address or not self.limits.per_address:
            return False
        self._by_address[address] += 1
        return True

    def count_out(self, address: str) -> None:
        """One that was counted has gone."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def make_room(self) -> None:
        """For one more that is half-open."""
        if len(self.half_open) >= self.limits.half_open:
            oldest = next(iter(self.half_open))
            del self.half_open[oldest]
            self.offences.refuse("half_open_connections", listener=oldest.gate.name, address=oldest.address)
            oldest.evict()

    def _rate(self, address: str) -> TokenBucket:
        limits = self.limits
        bucket = self._rates.pop(address, None)
        if bucket is None:
            burst = max(1.0, limits.per_second_per_address * limits.burst_seconds)
            bucket = TokenBucket(limits.per_second_per_address, burst, self.clock())
            if len(self._rates) >= ADDRESSES_MAXIMUM:
                self._rates.popitem(last=False)
        self._rates[address] = bucket
        return bucket


class Gate:
    """Of one listener."""

    def __init__(
        self, admission: Admission, name: str, connections_maximum: int, bucket: TokenBucket | None
    ) -> None:
        self.admission = admission
        self.name = name
        self.open = 0
        self.maximum = connections_maximum
        self._bucket = bucket

    def enter(self, host: str = "") -> "Visit | None":
        """Somebody is there; None if that is to be closed. Without a host nothing is known of where from:
        `Visit.come_from` tells that later, if a proxy does."""
        admission = self.admission
        address = network_of(host)
        limit = admission.refusal(address)
        if limit is None and self.maximum and self.open >= self.maximum:
            limit = f"listeners.{self.name}.connections_maximum"
        if limit is not None:
            admission.offences.refuse(limit, listener=self.name, address=host)
            return None
        admission.make_room()
        visit = Visit(self, address)
        self.open += 1
        admission.open += 1
        admission.half_open[visit] = None
        visit.is_counted = admission.count_in(address)
        return visit

    def pause_seconds(self) -> float:
        """How long nobody more is to be accepted, after one who was."""
        now = self.admission.clock()
        seconds = self._bucket.take(1, now) if self._bucket is not None else 0.0
        if seconds:
            self.admission.offences.slow_down(f"listeners.{self.name}.connects_per_second")
        if self.admission.bucket is not None:
            shared = self.admission.bucket.take(1, now)
            if shared:
                self.admission.offences.slow_down("connects_per_second")
            seconds = max(seconds, shared)
        return seconds


class Visit:
    """A connection that may come in."""

    __slots__ = ("_close", "_has_left", "_is_authenticating", "address", "gate", "is_counted", "is_evicted")

    def __init__(self, gate: Gate, address: str) -> None:
        self.gate = gate
        self.address = address
        self.is_counted = False  # with its address
        self.is_evicted = False
        self._close: Callable[[], object] | None = None
        self._is_authenticating = False
        self._has_left = False

    def when_evicted(self, close: Callable[[], object]) -> None:
        """How it is closed if it is half-open for too long; at once, if it was meant to be by now."""
        if self.is_evicted:
            close()
        else:
            self._close = close

    def evict(self) -> None:
        """Others want the place."""
        self.is_evicted = True
        close, self._close = self._close, None
        if close is not None:
            close()

    def come_from(self, host: str) -> bool:
        """A proxy has told where it comes from, once; False if it is to be closed."""
        admission = self.gate.admission
        address = network_of(host)
        limit = admission.refusal_of_address(address)
        if limit is not None:
            admission.offences.refuse(limit, listener=self.gate.name, address=host)
            return False
        self.address = address
        self.is_counted = admission.count_in(address)
        return True

    def authenticate(self, close: Callable[[], object]) -> None:
        """The CONNECT has come, and the client has more to say before it counts; what closes it now."""
        self._is_authenticating = True
        self.gate.admission.authenticating += 1
        self._close = close

    def settle(self) -> None:
        """The CONNECT has come, or that is over. May be called again."""
        admission = self.gate.admission
        admission.half_open.pop(self, None)
        admission.authenticating -= self._is_authenticating
        self._is_authenticating = False
        self._close = None

    def leave(self) -> None:
        """It has ended. May be called again."""
        if self._has_left:
            return
        self._has_left = True
        self.settle()
        self.gate.open -= 1
        self.gate.admission.open -= 1
        if self.is_counted:
            self.gate.admission.count_out(self.address)


def bucket_of(per_second: float, burst_seconds: float, now: float) -> TokenBucket | None:
    """None where there is no limit."""
    if not per_second:
        return None
    return TokenBucket(per_second, max(1.0, per_second * burst_seconds), now)
