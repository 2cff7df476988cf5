"""One MQTT connection of the load: connect, subscribe, disconnect. Subclasses make a load of it."""

import asyncio
from typing import Final, cast

from broker.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    MqttError,
    Packet,
    Properties,
    Suback,
    Subscribe,
    SubscriptionRequest,
    encode,
)
from loadtest.plan import SESSION_EXPIRY_SECONDS, Account
from loadtest.target import Target
from loadtest.transport import Transport, open_transport

MAXIMUM_PACKET_SIZE: Final = 268_435_460
ANSWER_SECONDS: Final = 15.0
"""How long a CONNACK or SUBACK may take. A loaded broker is slow; a lost answer must not hang the run."""


class ConnectFailed(Exception):
    """The broker couldn't be reached, refused, or gave no answer in time."""


def connect_packet(
    account: Account, client_id: str, *, persistent: bool = False, clean: bool = False
) -> Connect:
    """The CONNECT of a client. `persistent`: its session outlives the connection; `clean`: but begin anew."""
    properties = Properties(session_expiry_interval=SESSION_EXPIRY_SECONDS) if persistent else None
    return Connect(
        client_id=client_id,
        version=account.version,
        clean_start=clean or not persistent,
        keep_alive=0,  # [MQTT-3.1.2-22] has nothing to say then; a load is finite, and silence is part of it
        username=account.username,
        password=account.password.encode() if account.password is not None else None,
        will=None,
        properties=properties if account.version == 5 else None,
    )


class Client(asyncio.Protocol):
    """The bytes and handshakes of one connection. Subclasses take all other packets, a chunk at a time."""

    def __init__(self, name: str, account: Account, faults: list[str]) -> None:
        self.name = name
        self.version = account.version
        self.account = account
        self.paused = False
        self._faults = faults
        self._leaving = False
        self._decoder = Decoder(False, MAXIMUM_PACKET_SIZE, account.version)
        self._transport: Transport | None = None
        self._answer: asyncio.Future[Packet] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What a subclass fills in.

    def handle(self, packets: list[Packet]) -> None:
        """Take the packets of one chunk."""
        for packet in packets:
            self.handle_control(packet)

    def writable(self) -> None:
        """The transport takes bytes again."""

    # Handshakes.

    async def connect(self, target: Target, packet: Connect) -> Connack:
        """Open the connection and send CONNECT. Raises ConnectFailed."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await open_transport(self, target)
                answer = await self._ask(encode(packet, self.version))
        except TimeoutError as error:
            self.abort()
            raise ConnectFailed(f"no answer from {target} within {ANSWER_SECONDS:.0f} s") from error
        except OSError as error:
            raise ConnectFailed(
                f"{target}: {error.strerror or str(error) or type(error).__name__}"
            ) from error
        if not isinstance(answer, Connack):
            raise ConnectFailed(f"{target} answered CONNECT with {answer!r}")
        if answer.reason_code != 0:
            self.abort()
            raise ConnectFailed(f"{target} refused the connection: code {int(answer.reason_code):#04x}")
        return answer

    async def subscribe(self, topic_filter: str, qos: int, *, retained: bool = False) -> None:
        """Subscribe and wait for SUBACK. Raises ConnectFailed if it is refused or granted at a lower QoS.

        Before MQTT 5 retained messages come whether they are wanted or not.
        """
        request = Subscribe(
            1, [SubscriptionRequest(topic_filter, qos, False, False, 0 if retained else 2)], None
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._ask(encode(request, self.version))
        except TimeoutError as error:
            raise ConnectFailed(f"no SUBACK within {ANSWER_SECONDS:.0f} s") from error
        except OSError as error:
            raise ConnectFailed(f"no SUBACK: {error}") from error
        if not isinstance(answer, Suback) or list(answer.reason_codes) != [qos]:
            raise ConnectFailed(f"subscribing to {topic_filter} at QoS {qos} was answered by {answer!r}")

    async def disconnect(self) -> None:
        """Send DISCONNECT and wait until the connection is closed."""
        self.leave()
        await self.closed()

    def leave(self) -> None:
        """Send DISCONNECT and close, without waiting."""
        self._leaving = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(Disconnect(), self.version))
            self._transport.close()

    async def depart(self) -> None:
        """Send DISCONNECT and let the broker close [MQTT-3.14.4-3]. Raises ConnectFailed if it doesn't."""
        self._leaving = True
        self.write(encode(Disconnect(), self.version))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.closed()
        except TimeoutError as error:
            self.abort()
            raise ConnectFailed(
                f"the broker didn't close within {ANSWER_SECONDS:.0f} s of DISCONNECT"
            ) from error

    def abort(self) -> None:
        """Close at once, without DISCONNECT."""
        self._leaving = True
        if self._transport is not None:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait for the end of the connection."""
        if self._transport is not None:
            await asyncio.shield(self.ended)

    @property
    def is_open(self) -> bool:
        """Whether bytes can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def _ask(self, request: bytes) -> Packet:
        self._answer = asyncio.get_running_loop().create_future()
        self.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def handle_control(self, packet: Packet) -> None:
        """Take a packet which isn't part of the load: an awaited answer, or the broker's DISCONNECT."""
        if isinstance(packet, Connack | Suback) and self._answer is not None and not self._answer.done():
            self._answer.set_result(packet)
        elif isinstance(packet, Disconnect):
            self._fail(f"the broker sent DISCONNECT with code {int(packet.reason_code):#04x}")
        else:
            self._fail(f"an unexpected {packet!r}")

    def _fail(self, text: str) -> None:
        if not self._leaving:
            self._faults.append(f"{self.name}: {text}")
        self.abort()

    def write(self, data: bytes) -> None:
        """Send bytes; they are dropped when the connection is closed, which was noted then."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the broker closed the connection"))
        elif not self._leaving:
            self._faults.append(f"{self.name}: connection lost ({exc or 'closed by the broker'})")
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Decode all packets of a chunk and hand them on together."""
        packets: list[Packet] = []
        try:
            self._decoder.feed(data, packets)
        except MqttError as error:
            self._fail(f"the broker sent bad bytes: {error}")
        self.handle(packets)

    def pause_writing(self) -> None:
        """The broker doesn't read as fast as we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        self.writable()
