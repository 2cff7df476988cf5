"""From a CONNECT whose client may come in to its CONNACK.

The claim is one request to the store; its answer says whether there is a session to go on with and what it
holds. What must be true before CONNACK is done first: what the client has published on another node has
arrived here (order), older wills of this client are routed (an old "offline" never lands after the new
"online"), the subscription rows agree with the session, the other nodes know what the client wants here, and
the one that had it has been told. Then CONNACK, what the client has sent meanwhile, the PUBRELs that are due,
and the queue from its head."""

import random
import re
from collections.abc import Callable
from functools import partial

from broker.auth import Success
from broker.client.client import Client
from broker.client.closing import drop_rows, give_back, review_rows
from broker.client.confirming import promises_of, when_confirmed
from broker.client.noting import note_login
from broker.client.replaying import resume_replays
from broker.client.sharing import join_group
from broker.client.subscribing import review_on_connect, subscribe_on_connect
from broker.client.telling import tell_connected, tell_refused
from broker.client.wanting import field_of, join, want, want_nothing
from broker.client.wills import route_wills
from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Properties,
    ReasonCode,
    encode,
    has_wildcards,
    is_shared,
    parse_filter,
)
from broker.observability.lines import note
from broker.observability.logs import get_logger
from broker.session import (
    Intake,
    QueueState,
    SendingLimits,
    Session,
    WillMessage,
    will_message,
)
from cluster.store import inbox_records, inboxes, keys, records, sessions, subscriptions
from cluster.store.errors import ItemError, RedisFull
from cluster.store.lane import Reply, Request
from cluster.store.sessions import Claim

logger = get_logger(__name__)


class Handshake:
    """What a CONNECT asks for, kept until the claim is answered."""

    __slots__ = (
        "client",
        "client_id",
        "expiry_seconds",
        "is_assigned",
        "nonce",
        "packet",
        "server_keep_alive_seconds",
        "success",
        "window",
    )

    def __init__(
        self,
        client: Client,
        packet: Connect,
        expiry_seconds: int,
        server_keep_alive_seconds: int | None,
        window: int,
        success: Success | None,
    ) -> None:
        self.client = client
        self.packet = packet
        self.client_id = client.client_id
        self.is_assigned = not packet.client_id
        self.expiry_seconds = expiry_seconds
        self.server_keep_alive_seconds = server_keep_alive_seconds
        self.window = window
        # Has to differ from that of any other claim of this client. (`randbytes` is a call more.)
        self.nonce = random.getrandbits(64).to_bytes(8, "little")
        self.success = success

    def ask(self) -> None:
        """Asks for the session.

        A full Redis lets claims through: it is those who come back that empty their queues. A claim whose
        outcome is unknown must not take the session from a node to which the client has gone meanwhile."""
        client = self.client
        if client.is_closed:
            return
        committer = client.hub.committer
        committer.request(
            self._claim(False),
            self.claimed,
            frees_memory=True,
            revise=self._claim_again,
        )
        committer.read_tail()

    def _claim_again(self) -> Request:
        """It is unknown what became of the claim."""
        return self._claim(self.client.is_closed)

    def _claim(self, is_repeat: bool) -> Request:
        will = will_message(self.client_id, self.packet.will) if self.packet.will is not None else None
        return sessions.claim(
            self.client_id,
            nonce=self.nonce,
            clean_start=self.packet.clean_start,
            expiry_seconds=self.expiry_seconds,
            protocol=self.packet.version,
            window=self.window,
            will=_pack_will(will) if will is not None else None,
            will_delay_seconds=will.delay_seconds if will is not None else 0,
            is_repeat=is_repeat,
        )

    def claimed(self, reply: Reply) -> None:
        """The store has answered the claim."""
        if isinstance(reply, ItemError | RedisFull):
            logger.error("claim failed: %s", reply, extra={"client_id": self.client_id})
            refuse(
                self.client,
                ReasonCode.QUOTA_EXCEEDED if isinstance(reply, RedisFull) else ReasonCode.SERVER_UNAVAILABLE,
                "the session store refused the session",
            )
            return
        if reply is False:  # the connection has ended, and the claim was never made
            return
        claim = sessions.parse_claim(reply)
        client = self.client
        hub = client.hub
        if claim.unsure:
            hub.counters.recovered.add("perhaps_again", claim.unsure)
        previous = hub.clients.get(self.client_id)
        if previous is not None:
            previous.taken_over()  # [MQTT-3.1.4-3]
        drop_rows(hub, self.client_id, claim.ended_rows)
        if client.is_closed:
            self._give_up(claim)
            return
        hub.clients[self.client_id] = client
        client.epoch = claim.epoch
        if claim.previous_owner == hub.incarnation:
            self._settle_wills(claim)
        else:
            hub.committer.after_tail(partial(self._settle_wills, claim))

    def _settle_wills(self, claim: Claim) -> None:
        hub = self.client.hub
        route_wills(hub, claim.wills, partial(self._tell, claim))
        hub.after_input()

    def _tell(self, claim: Claim) -> None:
        """Tells the cluster of this session, then accepts: rows that differ from the session's own filters
        are repaired, the nodes learn what it wants here, the one that had it learns that it has it no
        more."""
        client = self.client
        hub = client.hub
        adds, deletes = self._rows_to_repair(claim)
        must_repair = bool(adds or deletes)
        must_kick = claim.previous_owner is not None and claim.previous_owner != hub.incarnation
        if not (must_repair or must_kick or claim.subscriptions):  # as most of those who come and go
            self._accept(claim)
            return
        done = join(1 + must_repair + must_kick, partial(self._accept, claim))
        if must_repair:
            self._repair(adds, deletes, done)
        if must_kick and claim.previous_owner is not None:
            record = inbox_records.pack_kick(self.client_id, claim.previous_epoch)
            hub.committer.request(inboxes.send(claim.previous_owner, record), done)
        self._want(claim, done)

    def _want(self, claim: Claim, then: Callable[[Exception | None], None]) -> None:
        fields = [
            field_of(filter, records.unpack_options(options).qos, False)
            for filter, options, _ in claim.subscriptions
        ]
        want(self.client, fields, then)

    def _repair(
        self,
        adds: list[tuple[str, str, bytes, int]],
        deletes: list[tuple[str, str, int]],
        then: Callable[[object], None],
    ) -> None:
        committer = self.client.hub.committer

        def written(reply: Reply) -> None:
            if isinstance(reply, Exception):
                logger.error("rows not repaired: %s", reply, extra={"client_id": self.client_id})
            committer.after_log(partial(followed, reply))

        def followed(reply: Reply) -> None:
            review_rows(self.client.hub, self.client_id, adds)
            then(reply)

        committer.request(subscriptions.rows(adds, deletes), written)

    def _rows_to_repair(
        self, claim: Claim
    ) -> tuple[list[tuple[str, str, bytes, int]], list[tuple[str, str, int]]]:
        stamps = self.client.hub.index.stamps_of(self.client_id)
        adds = [
            (self.client_id, filter, options, stamp)
            for filter, options, stamp in claim.subscriptions
            if filter not in stamps or stamps[filter] < stamp
        ]
        held = {filter for filter, _, _ in claim.subscriptions}
        deletes = [(self.client_id, filter, stamp) for filter, stamp in stamps.items() if filter not in held]
        return adds, deletes

    def _accept(self, claim: Claim) -> None:
        if self._is_direct(claim):
            self._accept_now(claim)
        else:
            when_confirmed(self.client, partial(self._accept_now, claim))

    def _is_direct(self, claim: Claim) -> bool:
        return not claim.present and self.expiry_seconds == 0

    def _accept_now(self, claim: Claim) -> None:
        client = self.client
        hub = client.hub
        if client.is_closed:  # it has gone, or was taken over, while we asked
            want_nothing(client)
            self._give_up(claim)
            return
        session = self._session(claim)
        client.session = session
        client.client_id = self.client_id
        client.expiry_asked_seconds = self.expiry_seconds
        if self.packet.will is not None:
            will = will_message(self.client_id, self.packet.will)
            client.will = _pack_will(will), will.delay_seconds
        client.connected_at = hub.tick()
        hub.direct_sessions += session.direct is not None
        if session.queued is not None:
            known = hub.index.known(self.client_id)
            if known is not None:
                known.session = session
                client.subscriber = known
        client.send(encode(self.connack(claim.present), self.packet.version))
        hub.counters.connects.add("success")
        note_login(client)
        note(
            logger,
            "connected",
            {
                "client_id": self.client_id,
                "peer": client.peer,
                "protocol": self.packet.version,
                "session_present": claim.present,
                "epoch": claim.epoch,
            },
        )
        tell_connected(client, self.packet.version, claim.present)
        review_on_connect(client)
        if not client.entrance.is_internal:
            subscribe_on_connect(client)
        if session.queued is not None:
            session.queued.resend_pubrels()
            resume_replays(client, claim.replays)
            for filter, options, _ in claim.subscriptions:
                if is_shared(filter) and _can_see(client, filter):
                    join_group(client, filter, records.unpack_options(options))
        if not client.release_waiting(self.server_keep_alive_seconds):
            return
        if client.connection.keep_alive_timeout:
            hub.wheel.watch_by(client, client.last_activity + client.connection.keep_alive_timeout)
        hub.after_input()

    def _give_up(self, claim: Claim) -> None:
        """There is no CONNACK any more. A session that was new ends, as its client has never been told of it,
        and its will with it. Else the will is as that of any connection: it stands for the one that the claim
        has cancelled."""
        client = self.client
        if not claim.present:
            client.expiry_seconds = 0
            client.fires_will = False
        give_back(client.hub, client, claim.epoch, claim.sent)

    def _session(self, claim: Claim) -> Session:
        client = self.client
        hub = client.hub
        settings = hub.settings
        version = self.packet.version
        intake = Intake(
            client,
            version,
            settings.connection.receive_maximum,
            settings.inbound_unacknowledged_bytes,
            hub.resumable,
        )
        client.intake = intake
        is_direct = self._is_direct(claim)
        direct_window = min(client.connection.client_receive_maximum, settings.direct_inflight_limit)
        limits = SendingLimits(
            direct_window if is_direct else self.window,
            client.connection.client_maximum_packet_size,
            settings.direct_queue_limit,
            settings.drop_oldest,
            min(client.connection.client_topic_alias_maximum, settings.sent_topic_aliases_maximum),
            version == MQTT_5 and client.connection.request_problem_information,
            client.entrance.mount_point.text if client.entrance.mount_point is not None else "",
            settings.direct_queue_bytes,
        )
        queue: QueueState | None = None
        ttl_seconds = settings.token_grace_seconds
        if not is_direct:
            ttl_seconds = max(ttl_seconds, min(self.expiry_seconds, settings.qos2_retry_limit_seconds))
            queue = QueueState(
                claim.gen,
                claim.n,
                claim.sent,
                claim.hi,
                claim.released,
                claim.receiving,
                not claim.present,
                claim.doubted,
            )
        return Session(
            self.client_id,
            keys.bucket_of(self.client_id),
            claim.epoch,
            version,
            hub.drops,
            client.outbox,
            intake,
            hub.clock,
            limits,
            queue,
            ttl_seconds * 1000,
            hub.changed,
            _allowed_topics(client),
            promises_of(client),
        )

    def connack(self, session_present: bool) -> Connack:
        """The answer to a CONNECT that is accepted."""
        if self.packet.version != MQTT_5:
            return Connack(session_present, 0)
        client = self.client
        settings = client.hub.settings
        asked = self.packet.properties or Properties()
        properties = Properties(
            receive_maximum=settings.connection.receive_maximum,
            maximum_packet_size=settings.connection.maximum_packet_size,
            topic_alias_maximum=settings.connection.topic_alias_maximum or None,
            assigned_client_identifier=self.client_id if self.is_assigned else None,
            session_expiry_interval=(
                self.expiry_seconds if self.expiry_seconds != (asked.session_expiry_interval or 0) else None
            ),
            server_keep_alive=self.server_keep_alive_seconds,
        )
        settings.capabilities.announce(properties)
        if self.success is not None:  # [MQTT-4.12.0-5]; without a method there is none [MQTT-4.12.0-6]
            properties.authentication_method = asked.authentication_method
            properties.authentication_data = self.success.data
        if asked.request_response_information == 1:  # [MQTT-3.1.2-28]
            properties.response_information = response_information(
                settings.response_information, self.client_id, client.username or None
            )
        return Connack(session_present, 0, properties)


def _allowed_topics(client: Client) -> set[str] | None:
    """Where the client may publish without a question, as far as is known; None: everywhere."""
    rights, limits = client.rights, client.hub.topic_limits
    if rights is not None and rights.governs_publishing:
        return rights.allowed
    return limits.known if limits is not None else None


def _can_see(client: Client, shared_filter: str) -> bool:
    """Else others of the group shall have the messages: the session comes by a listener with another mount
    point."""
    mount_point = client.entrance.mount_point
    return mount_point is None or mount_point.has(parse_filter(shared_filter)[1])


def response_information(template: str | None, client_id: str, username: str | None) -> str | None:
    """The Response Information for a client: what its Response Topics are to begin with [4.10.1]. None if
    there is none, or what is to be filled in is not there or can't be part of a Topic Name."""
    if template is None or ("%u" in template and username is None):
        return None
    values = {"%c": client_id, "%u": username or ""}
    filled = re.sub("%[cu]", lambda found: values[found[0]], template)
    return None if has_wildcards(filled) else filled


def _pack_will(will: WillMessage) -> bytes:
    return records.pack_will(
        will.topic,
        will.payload,
        will.qos,
        will.retain,
        will.properties,
        will.message_expiry_seconds,
        will.client_id,
    )


def refuse(client: Client, reason_code: ReasonCode, reason: str) -> None:
    """Answers CONNACK with an error and closes [MQTT-3.2.2-7]."""
    client.hub.counters.connects.add(reason_code.name.lower())
    tell_refused(client, reason_code, reason)
    client.close(reason_code, reason)
    client.hub.after_input()
