"""One connected client: bytes <-> mqtt.Connection <-> Session.

A Client is a Protocol object of the event loop (duck-typed, nothing to inherit). Every chunk is decoded as a
whole; what it causes is collected and leaves with one write per connection and tick. Packets of the message
flow go to the compiled `Ingress`; the others to the flow modules beside this one, by the table in the Hub.

Whatever goes wrong in here closes this connection and no other.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from broker.auth import Rights
from broker.auth.address import plain_address
from broker.client.aliveness import check_alive
from broker.client.authentication import Authentication
from broker.client.entrance import Entrance
from broker.client.hub import Hub
from broker.client.members import Membership
from broker.client.origin import Peer
from broker.client.pausing import Pause
from broker.client.renaming import renamed
from broker.client.stalling import watch_blocked
from broker.client.telling import tell_taken_over
from broker.client.tracing import Watcher
from broker.client.transport import Transport, Visit, peer_name
from broker.mqtt import Auth, Connection, MqttError, Packet, ReasonCode, State, Suback
from broker.observability.logs import get_logger
from broker.routing import Subscriber
from broker.session import Intake, Outbox, Session

CLOSE_TIMEOUT_SECONDS: Final = 5.0

logger = get_logger(__name__)


class Client:
    """A connection, and the session that it serves once it has been accepted.

    Life: opened -> (CONNECT) claiming -> connected -> closed. `session` is there from connected on;
    `is_taken_over` says that it is not ours to give back any more.
    """

    __slots__ = (
        "_pause",
        "abort_at",
        "address",
        "answer_by",
        "authentication",
        "awaiting",
        "blocked_bytes",
        "blocked_since",
        "client_id",
        "connected_at",
        "connection",
        "entrance",
        "epoch",
        "expiry",
        "expiry_asked_seconds",
        "expiry_seconds",
        "fires_will",
        "has_will",
        "hub",
        "intake",
        "interests",
        "is_closed",
        "is_held_back",
        "is_reading",
        "is_taken_over",
        "last_activity",
        "memberships",
        "origin",
        "outbox",
        "peer",
        "rights",
        "room",
        "session",
        "subscriber",
        "throttle",
        "trace",
        "transport",
        "username",
        "visit",
        "will",
    )

    def __init__(self, hub: Hub, entrance: Entrance, peer: Peer | None, visit: Visit) -> None:
        self.hub = hub
        self.entrance = entrance
        self.origin = peer  # None: its transport knows
        self.visit = visit
        throttling = entrance.throttling
        self.throttle = throttling.throttle(hub.tick()) if throttling is not None else None
        self.connection = Connection(hub.settings.connection)
        self.outbox = Outbox(hub.ready, self, hub.settings.outbound_buffer_bytes)
        self.transport: Transport | None = None
        self.session: Session | None = None
        self.subscriber: Subscriber | None = None
        self.intake: Intake | None = None
        self.authentication: Authentication | None = None  # if the CONNECT names a method
        self.awaiting: Callable[[], None] | None = None  # to be done at its end, if not confirmed by then
        self.rights: Rights | None = None  # if the node asks anything of its clients
        self.expiry: asyncio.TimerHandle | None = None  # of what it was authenticated by
        self._pause: Pause | None = None
        self.trace: Watcher | None = None  # if somebody follows it
        self.client_id = ""
        self.username = ""
        self.epoch = 0  # of our claim, 0 before it is answered
        self.memberships: dict[str, Membership] = {}  # by group
        self.interests: set[str] = set()  # what we count for in hub.interest
        self.address = ""  # without the port; empty if it isn't on the internet
        self.peer = ""
        self.connected_at = 0.0
        self.last_activity = 0.0
        self.answer_by = 0.0  # to its CONNECT, which has to come first
        self.blocked_since = 0.0  # as far as is known, and with what waiting
        self.blocked_bytes = 0
        self.abort_at = 0.0  # if the socket isn't closed by then, once we close
        self.room: asyncio.Event | None = None  # set when the client may take more, for those who wait for it
        self.expiry_asked_seconds = 0  # of its session, by CONNECT
        self.expiry_seconds: int | None = None  # as changed by DISCONNECT
        self.fires_will = True
        self.has_will = False
        self.will: tuple[bytes, int] | None = None  # as it is stored, and its delay in seconds
        self.is_closed = False
        self.is_reading = True
        self.is_held_back = False  # as memory is short
        self.is_taken_over = False

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"Client({self.client_id!r} from {self.peer}, {state}, {self.session!r})"

    # asyncio.Protocol

    def connection_made(self, transport: Transport) -> None:
        hub = self.hub
        self.transport = transport
        peer = self.origin or transport.get_extra_info("peername")
        self.address = plain_address(str(peer[0])) if isinstance(peer, tuple) else ""
        self.peer = peer_name(peer, self.entrance.kind)
        self.last_activity = hub.tick()
        hub.connections.add(self)
        hub.counters.connections += 1
        hub.counters.connections_by_listener.add(self.entrance.kind)
        if hub.is_stopping:
            self.close(ReasonCode.SERVER_BUSY, "the node is stopping")
            return
        self.visit.when_evicted(self._evict)
        if hub.tracing is not None:
            hub.tracing.opened(self)
        self.answer_by = self.last_activity + hub.settings.connection.connect_timeout_seconds
        hub.wheel.watch_by(self, self.answer_by)

    def data_received(self, data: bytes) -> None:
        hub = self.hub
        now = hub.tick()
        self.last_activity = now
        hub.counters.bytes_received += len(data)
        if hub.pulse.in_doubt:
            self.stop_reading()
            hub.hold(partial(self._receive_held, data))
            return
        self._receive(data)
        hub.after_input(now)

    def _receive(self, data: bytes) -> None:
        if self.throttle is None:
            self.take(data)
        else:
            self.throttle.receive(self, data)

    def take(self, data: bytes) -> Sequence[Packet]:
        """Handles what has come; the packets that were in there."""
        packets: list[Packet] = []
        if self.is_closed:
            return packets
        failure: MqttError | None = None
        try:
            self.connection.receive(data, packets)
        except MqttError as error:
            # What came before it counts. With its traceback it would keep this frame, and so the chunk, in
            # memory until a full collection, and there is hardly ever one.
            failure = error.with_traceback(None)
        self._process(packets, failure)
        return packets

    def _receive_held(self, data: bytes) -> None:
        self._receive(data)
        self.resume_reading()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def pause_writing(self) -> None:
        self.outbox.blocked = True
        watch_blocked(self)

    def resume_writing(self) -> None:
        self.outbox.unblock()
        if self.session is not None:
            self.hub.tick()
            self.session.outbound.resume_sending()
        if self.room is not None:
            self.room.set()
        self.resume_reading()
        self.hub.after_input()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None  # what is still to be done for the client must not write
        if self.hub.pulse.in_doubt:  # behind what it has sent
            self.hub.hold(partial(self.connection_lost, error))
        elif self._pause is not None and not self.is_closed:
            self._pause.loss = partial(self._lose, error)
        else:
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        hub = self.hub
        if self.throttle is not None:
            self.throttle.drain(self)
        self.visit.leave()
        self.end("connection lost" if error is None else f"connection lost: {error}")
        hub.connections.discard(self)
        if not self.is_reading:
            hub.counters.reading_paused -= 1
        if not hub.connections:
            hub.empty.set()
        hub.counters.connections -= 1
        hub.counters.connections_by_listener.add(self.entrance.kind, -1)
        hub.wheel.unwatch(self)
        hub.after_input()

    # From the core

    def write_all(self, data: bytes) -> None:
        if self.transport is not None:
            self.hub.counters.bytes_sent += len(data)
            if self.trace is not None:
                self.trace.sent(data)
            self.transport.write(data)

    def resume_reading(self) -> None:
        """There is room again, for what it sends and for what we send."""
        if self.is_reading or self.transport is None or self.is_closed:
            return
        if self._pause is not None or self.is_held_back or self.outbox.is_full():
            return
        if self.intake is not None and self.intake.must_hold():
            return
        if self.throttle is not None and self.throttle.must_wait:
            return
        self.is_reading = True
        self.hub.counters.reading_paused -= 1
        self.last_activity = self.hub.tick()  # keep-alive stood still while we did not read
        if self.throttle is not None:
            self.throttle.go_on(self)
        if self.is_reading and not self.is_closed and self.transport is not None:
            self.transport.resume_reading()

    @property
    def is_asking(self) -> bool:
        """Whether somebody is asked about a packet of it."""
        return self._pause is not None

    def may_be_read(self) -> bool:
        """Whether what has come may be handled now: not what follows a CONNECT that is not answered."""
        connection = self.connection
        is_early = connection.state is State.AUTHENTICATING and connection.authentication_method is None
        return self.is_reading and not self.is_closed and not is_early

    # Steps

    def release_waiting(self, server_keep_alive_seconds: int | None) -> bool:
        """The client has been accepted: handles what it has sent since CONNECT. False if that ended it."""
        packets: list[Packet] = []
        failure: MqttError | None = None
        try:
            self.connection.accepted(packets, server_keep_alive_seconds)
        except MqttError as error:
            failure = error.with_traceback(None)  # as above
        self._process(packets, failure)
        self.resume_reading()
        return not self.is_closed

    def pause(self) -> None:
        """Somebody has to be asked about the packet that is being handled: all behind it waits for
        `go_on`."""
        if self._pause is None:
            self._pause = Pause()
            self.stop_reading()

    def go_on(self, action: Callable[[], None]) -> None:
        """Ends the pause: first `action`, then what has waited."""
        pause = self._take_pause()
        if pause is None:
            return
        if not self.is_closed:
            self._process(pause.packets, pause.failure, action)
        if self._pause is not None and not self.is_closed:  # again
            self._pause.loss = pause.loss
        elif pause.loss is not None:
            pause.loss()
        else:
            self.resume_reading()

    def _take_pause(self) -> Pause | None:
        pause, self._pause = self._pause, None
        return pause

    def _process(
        self, packets: list[Packet], failure: MqttError | None, before: Callable[[], None] | None = None
    ) -> None:
        """Handles packets in order, then fails if the bytes after them were bad. After a pause they were
        looked at already, and `before` comes first."""
        try:
            if before is None:
                self._handle(packets)
            else:
                before()
                self._dispatch(packets)
            if self._pause is not None:
                self._pause.failure = failure or self._pause.failure
            elif failure is not None and not self.is_closed:
                self.fail(failure)
        except MqttError as error:
            self.fail(error)
        except Exception:  # the boundary of this connection: our bug must not harm the others
            logger.exception("connection failed", extra={"client_id": self.client_id, "peer": self.peer})
            self.close_for_bug()
        if self.room is not None:
            self.room.set()
        self._hold_if_needed()

    def _handle(self, packets: list[Packet]) -> None:
        hub = self.hub
        hub.counters.packets_received += len(packets)
        if self.trace is not None:
            self.trace.received(packets)
        if hub.rewriting is not None and not self.entrance.is_internal:
            packets = hub.rewriting.packets(packets, self.client_id, self.username)
        mount_point = self.entrance.mount_point
        if mount_point is not None:
            packets = renamed(packets, mount_point)
        self._dispatch(packets)

    def _dispatch(self, packets: Sequence[Packet]) -> None:
        hub = self.hub
        position = 0
        end = len(packets)
        while position < end and not self.is_closed:
            if self._pause is not None:
                self._pause.packets.extend(packets[position:])
                return
            if self.session is not None:
                position = hub.ingress.receive(self.session, packets, position)
                if position >= end:
                    return
            packet = packets[position]
            position += 1
            hub.handlers[type(packet)](self, packet)

    def send(self, data: bytes) -> None:
        """Sends an encoded packet with this tick."""
        self.outbox.send(data)

    def answer(self, packet: Packet) -> bool:
        """Sends a packet that the client waits for. If it accepts none of that size, that can't go on
        [MQTT-3.1.2-24]: the connection is closed, and the answer is False."""
        connection = self.connection
        if isinstance(packet, Suback):
            self._count_refused(packet.reason_codes)
            data = connection.encode_suback(packet)
        else:
            data = connection.encode_if_fits(packet)
        if data is None:
            self.close(ReasonCode.PACKET_TOO_LARGE, "the answer is larger than the Maximum Packet Size")
            return False
        send = self.send if self.session is None or isinstance(packet, Auth) else self.session.answer
        send(data)
        return True

    def _count_refused(self, reason_codes: Sequence[int]) -> None:
        for code in reason_codes:
            if code >= ReasonCode.UNSPECIFIED_ERROR:
                self.hub.counters.error_packets.add(f"suback {ReasonCode(code).name.lower()}")

    def fail(self, error: MqttError) -> None:
        """The client has broken the protocol: tells it why, if its version knows how, and closes
        [MQTT-4.13.1-1]."""
        self.hub.counters.malformed.add(error.reason_code.name.lower())
        self.close(error.reason_code, str(error))

    def close_for_bug(self) -> None:
        """Ours: it is logged, and ends this connection."""
        self.close(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")

    def close(self, reason_code: ReasonCode, reason: str, server_reference: str | None = None) -> None:
        """Ends the connection from our side: a refusing CONNACK, or DISCONNECT (MQTT 5, once connected), what
        is buffered, then the socket."""
        if self.is_closed:
            return
        packet = self.connection.farewell(reason_code, reason, server_reference)
        if packet and self.outbox.blocked:  # what waits is given up
            self.write_all(packet)
        elif packet:
            self.send(packet)
        if packet and reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            kind = "connack" if self.session is None else "disconnect"
            self.hub.counters.error_packets.add(f"{kind} {reason_code.name.lower()}")
        self.outbox.flush()
        self.end(f"{reason_code.name.lower()}: {reason}")
        self.close_socket()
        self.limit_closing()

    def close_socket(self) -> None:
        """Closes the socket when what is buffered has been written."""
        if self.transport is not None:
            self.transport.close()

    def limit_closing(self) -> None:
        """A socket that isn't closed in time is aborted."""
        if self.transport is not None:
            self.abort_at = time.monotonic() + CLOSE_TIMEOUT_SECONDS
            self.hub.wheel.watch_by(self, self.abort_at)

    def abort(self) -> None:
        """Closes the socket at once: this node has no right to the session any more."""
        self.is_taken_over = True
        self.end("node restarted")
        if self.transport is not None:
            self.transport.abort()

    def _evict(self) -> None:
        self.end("no CONNECT, and others want the place")
        if self.transport is not None:
            self.transport.abort()

    def end(self, reason: str) -> None:
        """Gives the session back, once; nothing is sent or handled any more."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.throttle is not None:
            self.throttle.cancel(self)
        if self.expiry is not None:
            self.expiry.cancel()
        self.connection.closed()
        self.outbox.close()
        if self.intake is not None:
            self.intake.abandon()
        if self.room is not None:
            self.room.set()
        self.hub.on_lost(self, reason)

    def taken_over(self) -> None:
        """The session belongs to another connection now, here or on another node: it is not ours to give
        back."""
        if self.session is not None:
            self.hub.router.lose(self.session)
        if self.is_closed:
            return
        self.is_taken_over = True
        self.hub.counters.takeovers += 1
        if self.hub.fights.note(self.client_id, self.hub.tick()):
            logger.warning(
                "several connections fight for one Client Identifier: further ones have to wait",
                extra={"client_id": self.client_id, "peer": self.peer},
            )
        tell_taken_over(self)
        self.close(ReasonCode.SESSION_TAKEN_OVER, "another connection uses this Client Identifier")

    def check_deadline(self, now: float) -> float:
        """From the deadline wheel: when to look again; 0 for never."""
        return check_alive(self, now)

    def _hold_if_needed(self) -> None:
        """Stops reading when too much of this client waits for the store, or for the client itself to
        read."""
        if self.transport is None or self.is_closed or not self.is_reading:
            return
        intake = self.intake
        is_over = intake is not None and intake.must_hold()
        if is_over and intake is not None:
            intake.is_held = True
        if is_over or self.outbox.is_full():
            self.stop_reading()

    def stop_reading(self) -> None:
        """Until `resume_reading` finds no reason against it."""
        if self.is_reading and self.transport is not None and not self.is_closed:
            self.is_reading = False
            self.hub.counters.reading_paused += 1
            self.transport.pause_reading()
