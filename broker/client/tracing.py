"""Live trace: what goes in and out of some clients, packet by packet, told to a tap.

Theory of operation. A connection that a trace may be about has a `Watcher`, all others have None there: that
is all that a trace costs them. What comes in is watched where it has been decoded, what goes out where whole
packets are written, so it is the same over TLS and WebSocket. A connection whose CONNECT has not come yet is
watched by all traces of a client, until it is known who it is.

Bounded, so that nobody's messages suffer: taps bound what is told, and so much is looked at a second and no
more, the packets of all clients that only their topic may make interesting by themselves.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import anyio
import anyio.lowlevel
import orjson
from pydantic import Field, TypeAdapter, ValidationError

from broker.auth.address import parsed_address
from broker.client.describing import Described, cut, describe
from broker.client.spans import ClientSpans, Spans
from broker.mqtt import (
    Connect,
    Decoder,
    MqttError,
    Packet,
    Publish,
    is_valid_topic_filter,
    matches,
    parse_filter,
)
from broker.observability.logs import get_logger
from broker.observability.moments import moment_text
from broker.observability.token_bucket import TokenBucket
from cluster.taps import Tap

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client
    from broker.client.hub import Hub

SOURCE: Final = "trace"
LOOKS_PER_SECOND: Final = 5_000
"""Packets that are looked at; twice that, as those of clients and those of topics are counted apart."""
_YIELD_AFTER: Final = 1_000
_WAITING: Final = 8
_LARGEST: Final = 1 << 28  # bytes: what may go out is no matter here

logger = get_logger(__name__)

T = TypeVar("T")
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Asked:
    """What a trace is of: one of the three."""

    client_id: str | None = None
    topic: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    address: str | None = None
    payloads: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One that is on."""

    tap: Tap
    client_id: str | None
    topic: str | None
    network: Network | None
    payloads: bool

    def is_of(self, client_id: str) -> bool:
        """Whether it is about the client of this name."""
        return self.client_id is not None and is_meant(self.client_id, client_id)


Traces = tuple[Trace, ...]

_ASKED: Final = TypeAdapter(Asked)


def is_meant(pattern: str, client_id: str) -> bool:
    """Whether it is the one, or begins so if the pattern ends in `*`."""
    return client_id.startswith(pattern[:-1]) if pattern.endswith("*") else client_id == pattern


def check_asked(asked: Asked) -> Network | None:
    """The network of an address. Raises ValueError if there isn't one thing to trace."""
    if sum(each is not None for each in (asked.client_id, asked.topic, asked.address)) != 1:
        raise ValueError("one of client_id, topic and address has to be given")
    if asked.topic is not None and not is_valid_topic_filter(asked.topic):
        raise ValueError("topic: not a Topic Filter")
    if asked.address is None:
        return None
    try:
        return ip_network(asked.address, strict=False)
    except ValueError:
        raise ValueError("address: neither an address nor a network") from None


class Tracing:
    """The traces of a node: a source of taps."""

    def __init__(self, hub: "Hub", node: str, spans: Spans | None = None) -> None:
        self._hub = hub
        self.node = node
        self.spans = spans  # with them, every connection is looked at
        self._traces: dict[str, Trace] = {}
        self._by_topic: Traces = ()  # those of them; one object for all connections, as there may be many
        self._fitting = anyio.Lock()
        now = time.monotonic()
        self.looks = TokenBucket(LOOKS_PER_SECOND, LOOKS_PER_SECOND, now)
        self.topic_looks = TokenBucket(LOOKS_PER_SECOND, LOOKS_PER_SECOND, now)
        self._has_changed()

    async def begin(self, tap: Tap, asked: Mapping[str, object]) -> None:
        """As `Source` says."""
        try:
            what = _ASKED.validate_python(asked)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None
        network = check_asked(what)
        topic = parse_filter(what.topic)[1] if what.topic is not None else None
        self._traces[tap.id] = Trace(tap, what.client_id, topic, network, what.payloads)
        self._has_changed()
        await self._fit_all()

    def end(self, tap_id: str) -> None:
        """As `Source` says."""
        if self._traces.pop(tap_id, None) is not None:
            self._has_changed()
            self._hub.spawn(self._fit_all())

    def _has_changed(self) -> None:
        self._by_topic = tuple(trace for trace in self._traces.values() if trace.topic is not None)
        is_needed = bool(self._traces) or self.spans is not None
        self._hub.tracing = self if is_needed else None

    def opened(self, client: "Client") -> None:
        """A connection has been made."""
        self.fit(client)
        if client.trace is not None:
            client.trace.opened()

    def fit(self, client: "Client") -> None:
        """Gives the connection the watcher that it needs, or none."""
        whole: Traces = ()
        undecided: Traces = ()
        for trace in self._traces.values():
            if trace.topic is not None:
                continue
            if trace.network is not None:
                if _is_in(client.address, trace.network):
                    whole += (trace,)
            elif not client.client_id:
                undecided += (trace,)
            elif trace.is_of(client.client_id):
                whole += (trace,)
        is_watched = bool(whole or self._by_topic or undecided) or self.spans is not None
        if client.is_closed or not is_watched:
            client.trace = None
            return
        if client.trace is None:
            client.trace = Watcher(self, client)
        client.trace.become(whole, self._by_topic, undecided)

    async def _fit_all(self) -> None:
        """What has changed meanwhile counts, for those that were looked at before, too: there is a later one
        for it."""
        async with self._fitting:
            for number, client in enumerate(list(self._hub.connections), 1):
                self.fit(client)
                if number % _YIELD_AFTER == 0:
                    await anyio.lowlevel.checkpoint()

    def now_ms(self) -> int:
        """Redis time. Not that of the core, which stands still between two looks."""
        return int(time.monotonic() * 1000) + self._hub.redis_offset_ms


class Watcher:
    """Of one connection: `whole` traces are about all of its packets, `by_topic` about messages, `undecided`
    ones about a client that this may turn out to be."""

    __slots__ = (
        "_by_topic", "_client", "_decoder", "_spans", "_topics", "_tracing", "_undecided", "_waiting",
        "_whole",
    )  # fmt: skip

    def __init__(self, tracing: Tracing, client: "Client") -> None:
        self._tracing = tracing
        self._client = client
        self._whole: Traces = ()
        self._by_topic: Traces = ()
        self._undecided: Traces = ()
        self._decoder: Decoder | None = None
        self._waiting: tuple[Packet, ...] = ()  # a CONNECT that leaves it to us what the client is called
        self._topics: dict[int, str] | None = None  # by the Topic Alias that we have set, as far as was seen
        self._spans = ClientSpans(tracing.spans, client) if tracing.spans is not None else None

    def become(self, whole: Traces, by_topic: Traces, undecided: Traces) -> None:
        """From now on for these."""
        self._whole = whole
        self._by_topic = by_topic
        self._undecided = undecided

    # From the connection

    def opened(self) -> None:
        """It is there."""
        self._tell("in", {"packet": "opened", "peer": self._client.peer})

    def received(self, packets: Sequence[Packet]) -> None:
        """Packets have come and are handled now."""
        self._safely(self._look_in, packets)

    def sent(self, data: bytes) -> None:
        """Whole packets are written."""
        self._safely(self._look_out, data)

    def ended(self, reason: str) -> None:
        """The connection is over, and nothing is watched any more."""
        self._safely(self._look_back, reason)
        self._client.trace = None

    def _safely(self, look: Callable[[T], None], at: T) -> None:
        try:
            look(at)
        except Exception:  # a bug of ours, which must not end the connection that is watched
            self._client.trace = None
            logger.exception("a trace has failed", extra={"client_id": self._client.client_id})

    def _look_in(self, packets: Sequence[Packet]) -> None:
        now = time.monotonic()
        if self._spans is not None:
            self._spans.received(packets)
        if self._undecided:
            self._decide(packets, now)
        if self._may_look(len(packets), now):
            for packet in packets:
                self._note("in", packet, now)

    def _look_out(self, data: bytes) -> None:
        now = time.monotonic()
        if self._undecided:
            self._decide((), now)
        is_traced = self._may_look(1, now)
        spans = self._spans
        if spans is not None and not spans.wants(data):
            spans = None
        if not is_traced and spans is None:
            self._topics = None
            return
        packets = [self._with_topic(packet) for packet in self._decoded(data)]
        if spans is not None:
            spans.sent(packets)
        if is_traced:
            self._looks().take(len(packets) - 1, now)
            for packet in packets:
                self._note("out", packet, now)

    def _decoded(self, data: bytes) -> list[Packet]:
        packets: list[Packet] = []
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = Decoder(False, _LARGEST, self._client.connection.version)
        try:
            decoder.feed(data, packets)
        except MqttError as error:  # the next write begins with a packet
            self._decoder = None
            self._tell("out", {"packet": "unreadable", "reason": str(error)})
        return packets

    def _look_back(self, reason: str) -> None:
        if self._spans is not None:
            self._spans.ended()
        if self._undecided:
            self._decide((), time.monotonic())
        self._tell("out", {"packet": "closed", "reason": cut(reason)})

    # Who is told

    def _decide(self, packets: Sequence[Packet], now: float) -> None:
        """Finds out who the client is, and which traces are about it."""
        client_id = self._client.client_id
        for packet in packets:
            if isinstance(packet, Connect):
                client_id = packet.client_id
        if not client_id:
            self._waiting = (*self._waiting, *packets)[:_WAITING]
            return
        meant = tuple(trace for trace in self._undecided if trace.is_of(client_id))
        self._undecided = ()
        whole, self._whole = self._whole, meant  # the others have had what has waited
        for packet in self._waiting:
            self._note("in", packet, now, client_id)
        self._waiting = ()
        self._whole = whole + meant
        if not self._whole and not self._by_topic and self._spans is None:
            self._client.trace = None

    def _looks(self) -> TokenBucket:
        return self._tracing.looks if self._whole else self._tracing.topic_looks

    def _may_look(self, count: int, now: float) -> bool:
        """Whether there is anything to look for, and not too much was looked at in this second."""
        if not (self._whole or self._by_topic):
            return False
        looks = self._looks()
        if looks.take_if_there(now):
            looks.take(count - 1, now)
            return True
        for trace in (*self._whole, *self._by_topic):
            trace.tap.skip(count)
        return False

    def _note(self, direction: str, packet: Packet, now: float, client_id: str = "") -> None:
        meant = self._whole
        if self._by_topic and isinstance(packet, Publish):
            topic = packet.topic
            meant += tuple(each for each in self._by_topic if each.topic and matches(each.topic, topic))
        traces = [trace for trace in meant if trace.tap.offer(now)]
        if not traces:
            return
        if isinstance(packet, Connect) and packet.client_id:
            client_id = packet.client_id
        for with_content in {trace.payloads for trace in traces}:
            record = self._record(direction, describe(packet, with_content), client_id)
            for trace in traces:
                if trace.payloads is with_content:
                    trace.tap.put(record)

    def _tell(self, direction: str, described: Described) -> None:
        """Something that is no packet."""
        now = time.monotonic()
        traces = [trace for trace in self._whole if trace.tap.offer(now)]
        if traces:
            record = self._record(direction, described)
            for trace in traces:
                trace.tap.put(record)

    def _record(self, direction: str, described: Described, client_id: str = "") -> bytes:
        tracing = self._tracing
        return orjson.dumps(
            {
                "at": moment_text(tracing.now_ms()),
                "node": tracing.node,
                "client_id": cut(client_id or self._client.client_id),
                "direction": direction,
            }
            | described
        )

    def _with_topic(self, packet: Packet) -> Packet:
        """With the name that stands behind a Topic Alias of ours."""
        if not isinstance(packet, Publish) or packet.properties is None:
            return packet
        alias = packet.properties.topic_alias
        if alias is None:
            return packet
        topics = self._topics
        if topics is None:
            topics = self._topics = self._topics_before()
        if packet.topic:
            topics[alias] = packet.topic
            return packet
        topic = topics.get(alias, f"(Topic Alias {alias})")
        return Publish(
            topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.packet_id, packet.properties
        )

    def _topics_before(self) -> dict[int, str]:
        """Those that were set before anybody looked."""
        session = self._client.session
        aliases = session.outbound.aliases if session is not None else None
        return aliases.topics() if aliases is not None else {}


def _is_in(address: str, network: Network) -> bool:
    parsed = parsed_address(address)
    return parsed is not None and parsed in network
