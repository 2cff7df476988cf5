"""A connection to another broker."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import anyio

from broker.forwarding.inner import check_granted
from broker.forwarding.link import Arrivals, LinkLost, name_of
from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    MqttError,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    encode,
)

KEEP_ALIVE_SECONDS: Final = 30
_PING_SECONDS: Final = 10.0
_NEVER: Final = 0xFFFF_FFFF
_PACKET_BYTES_MAXIMUM: Final = 268_435_460
_WAITING_BYTES: Final = 1 << 20
_RECEIVE_MAXIMUM: Final = 65_535  # of those who say nothing [MQTT 5: 3.2.2.3.3]
_V3_REFUSALS: Final = {
    1: "unacceptable protocol version",
    2: "client identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker is. `context`: by TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None
    timeout_seconds: float

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Remote(asyncio.Protocol):
    """Made by `open_remote`. What CONNACK says of the other broker is here after `connect`."""

    def __init__(self, version: int, timeout_seconds: float) -> None:
        self.version = version
        self.receive_maximum = _RECEIVE_MAXIMUM
        self.maximum_packet_size = 0  # none that we know of
        self.maximum_qos = 2
        self.retain_available = True
        self._timeout_seconds = timeout_seconds
        self._keep_alive_seconds = KEEP_ALIVE_SECONDS
        self._decoder = Decoder(False, _PACKET_BYTES_MAXIMUM, version)
        self._arrivals = Arrivals()
        self._waiting_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._has_heard = False

    def send(self, packets: Sequence[Packet]) -> None:
        """See Link."""
        self._arrivals.check()
        assert self._transport is not None
        data = b"".join([encode(packet, self.version) for packet in packets])
        if data:
            self._transport.write(data)

    async def drain(self) -> None:
        """See Link."""
        while self._is_paused:
            await self._arrivals.wait()

    async def receive(self) -> list[Packet]:
        """See Link."""
        while not self._arrivals.packets:
            await self._arrivals.wait()
        packets, self._arrivals.packets = self._arrivals.packets, []
        if self._waiting_bytes > _WAITING_BYTES and self._transport is not None:
            self._transport.resume_reading()
        self._waiting_bytes = 0
        return packets

    async def connect(
        self,
        client_id: str,
        username: str | None,
        password: bytes | None,
        receive_maximum: int,
        *,
        clean_start: bool = False,
    ) -> bool:
        """Whether the session was there. It outlives the connection. Raises LinkLost."""
        properties = None
        if self.version == MQTT_5:
            properties = Properties(session_expiry_interval=_NEVER, receive_maximum=receive_maximum)
        self.send(
            [
                Connect(
                    client_id,
                    self.version,
                    clean_start,
                    KEEP_ALIVE_SECONDS,
                    username,
                    password,
                    None,
                    properties,
                )
            ]
        )
        connack = await self._arrivals.answer(Connack, self._timeout_seconds)
        code = connack.reason_code
        if code:
            reason = name_of(code) if self.version == MQTT_5 else _V3_REFUSALS.get(code, str(code))
            raise LinkLost(f"refused: {reason}")
        self._learn(connack.properties or Properties())
        return connack.session_present

    async def subscribe(self, requests: Sequence[SubscriptionRequest]) -> None:
        """Raises LinkLost if one is not granted."""
        self.send([Subscribe(1, list(requests))])
        check_granted(requests, await self._arrivals.answer(Suback, self._timeout_seconds))

    async def keep_alive(self) -> None:
        """Asks now and then whether the other side is there. Raises LinkLost if it says nothing."""
        silent_seconds = 0.0
        while silent_seconds < 1.5 * self._keep_alive_seconds:
            self.send([Pingreq()])
            self._has_heard = False
            pause_seconds = min(_PING_SECONDS, self._keep_alive_seconds / 2)
            await anyio.sleep(pause_seconds)
            silent_seconds = 0.0 if self._has_heard else silent_seconds + pause_seconds
        raise LinkLost(f"silent for {silent_seconds:g} s")

    def disconnect(self) -> None:
        """The session stays there."""
        if not self._arrivals.failure:
            self.send([Disconnect()])
        self._arrivals.fail("closed")
        if self._transport is not None:
            self._transport.close()

    def _learn(self, said: Properties) -> None:
        self.receive_maximum = said.receive_maximum or self.receive_maximum
        self.maximum_packet_size = said.maximum_packet_size or 0
        self.maximum_qos = 2 if said.maximum_qos is None else said.maximum_qos
        self.retain_available = said.retain_available != 0
        self._keep_alive_seconds = said.server_keep_alive or KEEP_ALIVE_SECONDS

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._has_heard = True
        packets: list[Packet] = []
        try:
            self._decoder.feed(data, packets)
        except MqttError as error:
            self._fail(f"does not speak MQTT: {error}")
        for packet in packets:
            if isinstance(packet, Disconnect):
                self._fail(f"disconnected: {name_of(packet.reason_code)}")
            elif not isinstance(packet, Pingresp):
                self._arrivals.packets.append(packet)
                if isinstance(packet, Publish):
                    self._waiting_bytes += len(packet.payload)
        if self._waiting_bytes > _WAITING_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._arrivals.tell()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._arrivals.tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._arrivals.fail("connection lost" if error is None else f"connection lost: {error}")

    def _fail(self, reason: str) -> None:
        self._arrivals.fail(reason)
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def open_remote(place: Place, version: int) -> AsyncIterator[Remote]:
    """Connected; CONNECT is the next thing to do. Closed in the end. Raises LinkLost."""
    loop = asyncio.get_running_loop()
    try:
        with anyio.fail_after(place.timeout_seconds):
            _, remote = await loop.create_connection(
                lambda: Remote(version, place.timeout_seconds), place.host, place.port, ssl=place.context
            )
    except TimeoutError:
        raise LinkLost(f"no connection to {place} within {place.timeout_seconds:g} s") from None
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one
        raise LinkLost(f"no connection to {place}: {error}") from None
    try:
        yield remote
    finally:
        remote.disconnect()
