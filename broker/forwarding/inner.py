"""A client that lives in this process: packets in, packets out, by way of a `Client` and no socket.

What the broker writes is decoded here, at once, and waits for `receive`. Messages at QoS 1 and 2 are bounded
by the Receive Maximum; those at QoS 0 by WAITING_BYTES: beyond that they are dropped, and counted. The broker
can't be made to wait for us: it would take us for a client that does not read.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from broker.client import Client, Entrance, Hub
from broker.forwarding.link import Arrivals, LinkLost, name_of
from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Properties,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    encode,
)
from broker.observability.forwards import ForwardStatus

WAITING_BYTES: Final = 4 << 20

_OVERHEAD_BYTES: Final = 512
_NEVER: Final = 0xFFFF_FFFF
_PACKET_BYTES_MAXIMUM: Final = 268_435_460
_ANSWER_SECONDS: Final = 10.0
_REFUSED: Final = 0x80
_WHERE: Final = Entrance("internal", "internal", is_internal=True)


class _NoVisit:
    """No listener has a place for it."""

    def when_evicted(self, close: Callable[[], object]) -> None:
        """Never."""

    def authenticate(self, close: Callable[[], object]) -> None:
        """It names no method."""

    def settle(self) -> None:
        """Nobody waits for that."""

    def leave(self) -> None:
        """Nor for that."""


class Inner:
    """Made by `open_inner`. It is the transport of its Client, too: what that calls is at the end."""

    def __init__(self, hub: Hub, status: ForwardStatus) -> None:
        self._loop = asyncio.get_running_loop()
        self._status = status
        self._client = Client(hub, _WHERE, None, _NoVisit())
        self._decoder = Decoder(False, _PACKET_BYTES_MAXIMUM, MQTT_5)
        self._arrivals = Arrivals()
        self._waiting_bytes = 0
        self._unsent: list[bytes] = []
        self._is_paused = False
        self._closing: asyncio.Handle | None = None
        self._client.connection_made(self)

    # For the forward

    def key_of(self, packet_id: int) -> str:
        """What names the entry of the queue that was sent under this identifier, in the whole cluster, for
        ever."""
        session = self._client.session
        assert session is not None
        queued = session.queued
        assert queued is not None
        n = queued.inflight[packet_id] >> 2
        return f"{queued.gens.get(n, queued.gen)}-{n}"

    def send(self, packets: Sequence[Packet]) -> None:
        """See Link."""
        self._arrivals.check()
        data = b"".join([encode(packet, MQTT_5) for packet in packets])
        if self._is_paused or self._unsent:
            self._unsent.append(data)
        elif data:
            self._client.data_received(data)

    async def drain(self) -> None:
        """See Link."""
        while self._is_paused or self._unsent:
            await self._arrivals.wait()

    async def receive(self) -> list[Packet]:
        """See Link."""
        while not self._arrivals.packets:
            await self._arrivals.wait()
        return self.receive_now()

    def receive_now(self) -> list[Packet]:
        """What has come, perhaps nothing."""
        packets, self._arrivals.packets = self._arrivals.packets, []
        self._waiting_bytes = 0
        return packets

    @property
    def is_subscribed(self) -> bool:
        """Whether the session has subscriptions; to be asked after `connect`, or after `subscribe`."""
        return bool(self._client.hub.index.stamps_of(self._client.client_id))

    async def until_sure(self) -> None:
        """Waits until it is known that the session is still ours, if the node has stood still. Raises
        LinkLost if it is not."""
        hub = self._client.hub
        hub.tick()
        while hub.pulse.in_doubt:
            is_settled = asyncio.Event()
            hub.hold(is_settled.set)
            await is_settled.wait()
        self._arrivals.check()

    async def fail_when_lost(self) -> None:
        """Waits for its end, then raises LinkLost."""
        while True:
            await self._arrivals.wait()

    def disconnect(self) -> None:
        """Gives the session back; it goes on elsewhere."""
        if not self._arrivals.failure:
            self._is_paused = False
            self._send_rest()
            self.send([Disconnect()])
        self._arrivals.fail("closed")

    async def connect(self, client_id: str, receive_maximum: int, *, clean_start: bool = False) -> bool:
        """Claims the session; whether it was there. Raises LinkLost."""
        properties = Properties(session_expiry_interval=_NEVER, receive_maximum=receive_maximum)
        self.send([Connect(client_id, MQTT_5, clean_start, 0, properties=properties)])
        answer = await self._arrivals.answer(Connack, _ANSWER_SECONDS)
        if answer.reason_code:
            raise LinkLost(f"the session is not given: {name_of(answer.reason_code)}")
        return answer.session_present

    async def subscribe(self, requests: Sequence[SubscriptionRequest]) -> None:
        """To these filters, and to no others. Raises LinkLost."""
        hub = self._client.hub
        wanted = {request.filter for request in requests}
        others = [filter for filter in hub.index.stamps_of(self._client.client_id) if filter not in wanted]
        if others:
            self.send([Unsubscribe(1, others)])
            await self._arrivals.answer(Unsuback, _ANSWER_SECONDS)
        if requests:
            self.send([Subscribe(1, list(requests))])
            suback = await self._arrivals.answer(Suback, _ANSWER_SECONDS)
            check_granted(requests, suback)

    # For the Client

    def get_extra_info(self, name: str) -> None:
        """There is nothing to know."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits to be read."""
        return 0

    def write(self, data: bytes) -> None:
        """Something for the forward."""
        packets: list[Packet] = []
        self._decoder.feed(data, packets)
        for packet in packets:
            if isinstance(packet, Disconnect):
                self._arrivals.fail(name_of(packet.reason_code))
            elif not self._is_too_much(packet):
                self._arrivals.packets.append(packet)
        self._arrivals.tell()

    def close(self) -> None:
        """As a socket does it: the end comes later, and once."""
        if self._closing is None:
            self._arrivals.fail("closed by the broker")
            self._closing = self._loop.call_soon(self._client.connection_lost, None)

    def abort(self) -> None:
        """Nothing is left to be written."""
        self.close()

    def pause_reading(self) -> None:
        """The broker takes no more packets."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """It does again."""
        self._is_paused = False
        self._loop.call_soon(self._send_rest)

    def _send_rest(self) -> None:
        if self._unsent and not self._is_paused and self._closing is None:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._client.data_received(data)
        self._arrivals.tell()

    def _is_too_much(self, packet: Packet) -> bool:
        if not isinstance(packet, Publish) or packet.qos:
            return False
        if self._waiting_bytes >= WAITING_BYTES:
            self._status.dropped += 1
            return True
        self._waiting_bytes += len(packet.payload) + _OVERHEAD_BYTES
        return False


def check_granted(requests: Sequence[SubscriptionRequest], suback: Suback) -> None:
    """Raises LinkLost if one was not."""
    for request, code in zip(requests, suback.reason_codes, strict=True):
        if code >= _REFUSED:
            raise LinkLost(f"no subscription to {request.filter!r}: {name_of(code)}")


@contextmanager
def open_inner(hub: Hub, status: ForwardStatus) -> Iterator[Inner]:
    """Connected to the broker as a socket is: CONNECT is the next thing to do. Closed in the end."""
    inner = Inner(hub, status)
    try:
        yield inner
    finally:
        inner.disconnect()
