"""The receiving half of a session: QoS 2 messages of the client, from PUBLISH to PUBCOMP.

Each such message gets a *token* when it is first seen. Whoever routes it, and however often, names the token,
so that no subscriber takes it twice. A queued session keeps its tokens in Redis (`rx`): the store knows of a
message before it is routed, and PUBREC leaves only after it has been. A direct session keeps them here, as it
ends with its connection.

The Packet Identifiers here are the client's; those of `Outbound` are ours: two separate worlds [MQTT-2.2.1].
"""

from enum import IntEnum
from typing import Final

from broker.session.message import Message
from broker.session.stored import StoredSession

_RECEIVED: Final = 0  # being stored or routed: PUBREC is still owed
_ROUTED: Final = 1  # PUBREC has been sent
_RELEASING: Final = 2  # PUBREL has come: PUBCOMP is owed
# In doubt: that the client has released it may be lost (`doubt`).
_PERHAPS_ROUTED: Final = 3
_PERHAPS_RECEIVED: Final = 4
_PHASES: Final = (_RECEIVED, _ROUTED, _RELEASING, _ROUTED, _RECEIVED)


class Receipt(IntEnum):
    """What to do with a QoS 2 PUBLISH."""

    NEW = 0  # store its token (queued session), then route it
    UNROUTED = 1  # stored by an earlier connection, perhaps routed in part: route it again with its token
    PENDING = 2  # sent twice over one connection; the answer is under way
    ROUTED = 3  # answer PUBREC again


class Release(IntEnum):
    """What to do with a PUBREL."""

    STORE = 0  # delete the identifier in the store, then PUBCOMP
    COMPLETE = 1  # PUBCOMP at once
    UNKNOWN = 2  # PUBCOMP with 0x92
    PENDING = 3  # PUBREL sent twice, the answer is under way; or before PUBREC, and it will be sent again


class TokenSource:
    """Gives tokens that no other source gives: `prefix` names the incarnation of the node, in at least 8
    bytes."""

    __slots__ = ("_count", "_prefix")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._count = 0

    def next(self) -> bytes:
        """A token never given before."""
        self._count += 1
        return self._prefix + self._count.to_bytes(6, "big")


class Inbound:
    """QoS 2 exchanges in which the client is the sender.

    `stored` is the session whose identifiers are kept in Redis, None for a direct one. For a queued session
    `storing`, `routed` and `releasing` collect what has to be written.
    """

    __slots__ = (
        "_receivers",
        "_refusals",
        "_states",
        "_tokens",
        "releasing",
        "routed",
        "spent",
        "stored",
        "storing",
        "storing_messages",
    )

    def __init__(self, stored: StoredSession | None) -> None:
        self.stored = stored
        self._states: dict[int, int] = {}
        self._tokens: dict[int, bytes] = {}  # of exchanges that an earlier connection began and nobody routed
        self._receivers: dict[int, tuple[bytes, list[int]]] = {}  # token, and the buckets that remember it
        self._refusals: dict[int, int] = {}  # Reason Codes of messages that wait for their turn to be refused
        self.spent: list[tuple[int, bytes]] = []
        self.storing: list[int] = []
        self.storing_messages: list[Message] = []
        self.routed: list[int] = []
        self.releasing: list[int] = []

    def __repr__(self) -> str:
        return f"Inbound({self._states})"

    def restore(self, packet_id: int, token: bytes, is_routed: bool) -> None:
        """An exchange that an earlier connection left open, as the claim answers it."""
        if is_routed:
            self._states[packet_id] = _ROUTED
        else:
            self._tokens[packet_id] = token

    def doubt(self, packet_id: int) -> None:
        """Another primary of the store has come since a restored exchange was stored: that the client has
        released its identifier may be lost. Then what comes under it is another message."""
        self._states[packet_id] = _PERHAPS_RECEIVED if packet_id in self._tokens else _PERHAPS_ROUTED

    def begin(self, packet_id: int) -> Receipt:
        """A QoS 2 PUBLISH has come [MQTT-4.3.3-10]. Of a receipt that is not NEW, `judge` has the last
        word."""
        state = self._states.get(packet_id, -1)
        if state == _RECEIVED:
            return Receipt.PENDING
        if state >= _ROUTED:
            return Receipt.ROUTED
        self._states[packet_id] = _RECEIVED
        return Receipt.UNROUTED if packet_id in self._tokens else Receipt.NEW

    def judge(self, packet_id: int, receipt: Receipt, is_dup: bool) -> Receipt:
        """What to do with a PUBLISH under an identifier that is held.

        If it is in doubt, the DUP flag tells. 0 means that this is the first attempt to send it [3.3.1.1]:
        another message, as what is held had been sent over an earlier connection, and a client has to set DUP
        if it sends that again [MQTT-3.3.1-1]. With 1 it is taken for what is held, the doubt is over."""
        state = self._states[packet_id]
        if state < _PERHAPS_ROUTED:
            return receipt
        if not is_dup:
            self._tokens.pop(packet_id, None)
            self._states[packet_id] = _RECEIVED
            return Receipt.NEW
        self._states[packet_id] = _PHASES[state]
        return Receipt.ROUTED if state == _PERHAPS_ROUTED else Receipt.UNROUTED

    def take_token(self, packet_id: int) -> bytes:
        """The token under which an UNROUTED message was stored."""
        return self._tokens.pop(packet_id)

    def store(self, packet_id: int, message: Message, refusal: int = 0) -> None:
        """A NEW message of a queued session waits for its token to be stored. One that is refused has none:
        it waits for those before it [MQTT-4.6.0-3]."""
        if refusal:
            self._refusals[packet_id] = refusal
        self.storing.append(packet_id)
        self.storing_messages.append(message)
        if self.stored is not None:
            self.stored.mark_changed()

    def take_refusal(self, packet_id: int) -> int:
        """The Reason Code that a message was stored with; 0 if it may be routed."""
        return self._refusals.pop(packet_id, 0)

    def settle(self, packet_id: int) -> bool:
        """The message has been routed. False if its exchange has ended already: PUBREC is not owed any
        more."""
        if self._states.get(packet_id, -1) != _RECEIVED:
            return False
        self._states[packet_id] = _ROUTED
        if self.stored is not None:
            self.routed.append(packet_id)
            self.stored.mark_settled()
        return True

    def take_routed(self) -> list[int]:
        """What is to be noted as routed: exchanges that have not gone on since."""
        routed = [packet_id for packet_id in self.routed if self._states.get(packet_id, -1) == _ROUTED]
        self.routed = []
        return routed

    def remember(self, packet_id: int, token: bytes, buckets: list[int]) -> None:
        """The message was routed under `token`; the store keeps that in `buckets` until the exchange ends."""
        if self.stored is not None:
            self._receivers[packet_id] = (token, buckets)

    def held(self, under_way: dict[int, bytes]) -> list[tuple[int, bytes, bool]]:
        """What the store should have of them: Packet Identifier, token, whether it was routed; an empty
        token is not known here. `under_way`: tokens of those that are being routed. Not those that are
        being stored, and those whose identifiers are about to be deleted."""
        found: list[tuple[int, bytes, bool]] = []
        for packet_id, state in self._states.items():
            receivers = self._receivers.get(packet_id)
            token = receivers[0] if receivers is not None else b""
            if state == _RECEIVED:
                found.append((packet_id, under_way.get(packet_id, token), False))
            elif state in (_ROUTED, _PERHAPS_ROUTED):
                found.append((packet_id, token, True))
        found += [(packet_id, token, False) for packet_id, token in self._tokens.items()]
        return found

    def has_exchanges(self) -> bool:
        """Whether any is open."""
        return bool(self._states or self._tokens)

    def exchanges(self) -> list[tuple[int, int]]:
        """Those that are open: phase (as in PHASES of `broker.observability.sounding`), Packet Identifier.
        The oldest comes first, but for those that an earlier connection began: these come last."""
        found = [(_PHASES[state], packet_id) for packet_id, state in self._states.items()]
        found += [(_RECEIVED, packet_id) for packet_id in self._tokens if packet_id not in self._states]
        return found

    def has_exchange(self, packet_id: int, phase: int) -> bool:
        """Whether there is one with this identifier, and in this phase."""
        state = self._states.get(packet_id, -1)
        if state < 0:
            return phase == _RECEIVED and packet_id in self._tokens
        return _PHASES[state] == phase

    def refuse(self, packet_id: int) -> None:
        """The message was not taken (PUBREC with an error): the identifier is free again [MQTT-4.3.3-9]."""
        self._states.pop(packet_id, None)

    def release(self, packet_id: int) -> Release:
        """PUBREL has come [MQTT-4.3.3-11]."""
        state = self._states.get(packet_id, -1)
        # Before PUBREC it is too early, and comes again when that has left. Taken now, the identifier could
        # be deleted before it is stored, and the next message under it pass for this one.
        if state in (_RECEIVED, _RELEASING):
            return Release.PENDING
        if state < 0 and packet_id not in self._tokens:
            return Release.UNKNOWN
        self._tokens.pop(packet_id, None)
        if self.stored is None:
            self._states.pop(packet_id, None)
            return Release.COMPLETE
        self._states[packet_id] = _RELEASING
        self.releasing.append(packet_id)
        self.stored.mark_changed()
        return Release.STORE

    def released(self, packet_id: int) -> None:
        """The store has forgotten the identifier: PUBCOMP may leave, and nobody asks for the token again."""
        self._states.pop(packet_id, None)
        receivers = self._receivers.pop(packet_id, None)
        if receivers is not None and self.stored is not None:
            token, buckets = receivers
            for bucket in buckets:
                self.spent.append((bucket, token))
            self.stored.mark_settled()
