"""Writes what a schema version leaves in Redis, for `test_state.py` and all later releases.

    python -m tests.upgrade.write_state

Two nodes of this release serve clients that stop at each step of what they can do, and are killed. The state
is written to tests/upgrade/state/schema-N.json, and what a later release must make of it to
schema-N.expected.json.
Once a release has been made with a schema version its files stay as they are.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import redis

import broker
from broker.auth.ban import target_of
from broker.auth.user import Allowed, ScramKeys, User
from broker.mqtt import MQTT_3_1_1, Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from cluster.store import bans, keys, letters, receive, users
from cluster.store.library import SCHEMA_VERSION
from cluster.store.records import pack_will
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import running_redis
from tests.node.wire import NEVER, WireClient, connected
from tests.store.caller import Caller
from tests.upgrade.dump import dump

STATE: Final = Path(__file__).with_name("state")
PREFIX: Final = "mq:"
FAR: Final = 4_000_000_000
"""Seconds: a deadline that no test will see the end of."""
SOON: Final = 1
_DELAY: Final = 5
"""Seconds: longer than it takes from there to the end of the nodes."""
_HASH: Final = "$argon2id$v=19$m=8,t=1,p=1$b7uZ4kKhPvwJqDBEJNUgWQ$PtPEgVzwb4cPN0eWQ2Nzf0YIcZJLcJyI2Wyf0QYcT2A"
_ENVIRONMENT: Final = {
    "MOORLINE_MQTT__SESSION_EXPIRY_MAXIMUM_SECONDS": str(NEVER),
    "MOORLINE_MQTT__SYS_INTERVAL_SECONDS": "0",
    "MOORLINE_TOPICS__DELAYED_MAXIMUM_SECONDS": str(_DELAY),
    "MOORLINE_TOPICS__EXCLUSIVE": "true",
}

Expected: TypeAlias = dict[str, object]
_Story: TypeAlias = Callable[["Writer"], Expected]


class Writer:
    """What the clients have at hand. Connections stay open until the nodes are dead."""

    def __init__(self, first: NodeProcess, second: NodeProcess, client: redis.Redis) -> None:
        self.first = first
        self.second = second
        self.client = client
        self.open: list[WireClient] = []
        self.publisher = self.connect("publisher", expiry=0)

    def connect(
        self,
        client_id: str,
        *,
        expiry: int = NEVER,
        will: Will | None = None,
        node: NodeProcess | None = None,
    ) -> WireClient:
        """A client that has been accepted by the first node, or that one."""
        properties = Properties(session_expiry_interval=expiry)
        port = (node or self.first).port
        client = connected(port, client_id, will=will, properties=properties)
        self.open.append(client)
        return client

    def publish(self, topic: str, *payloads: str, qos: int, expiry: int | None = None) -> None:
        """By the publisher, and acknowledged."""
        for payload in payloads:
            properties = Properties(message_expiry_interval=expiry, user_property=(("a", "b"),))
            assert self.publisher.publish(topic, payload.encode(), qos, properties=properties) in (0, 0x10)

    def retain(self, topic: str, payload: str, expiry: int | None = None) -> None:
        """By the publisher, and acknowledged."""
        properties = Properties(message_expiry_interval=expiry)
        self.publisher.publish(topic, payload.encode(), 1, retain=True, properties=properties)

    def caller_for(self, node: NodeProcess) -> Caller:
        """Calls the library in the name of a node."""
        name = f"{node.directory.name}."
        members = [member.decode() for member in self.client.zrange(keys.nodes(PREFIX), 0, -1)]  # type: ignore[union-attr]  # not awaited here
        (incarnation,) = [member for member in members if member.startswith(name)]
        return Caller(self.client, PREFIX, incarnation)

    def epoch(self, client_id: str) -> int:
        """Of its session."""
        epoch = Caller(self.client, PREFIX).field("epoch", client_id)
        assert epoch is not None
        return int(epoch)


# Sessions. Each story answers with what its client must get, and what must work, when it comes back.


def queued(writer: Writer) -> Expected:
    """Messages that came while it was away; one has expired, and one will not."""
    client = writer.connect("queued")
    client.subscribe("state/queued/#", qos=2, identifier=7)
    client.disconnect()
    writer.publish("state/queued/a", "one", qos=1)
    writer.publish("state/queued/b", "two", qos=2)
    writer.publish("state/queued/a", "too late", qos=1, expiry=SOON)
    writer.publish("state/queued/a", "three", qos=1, expiry=FAR)
    return _expected(
        [
            "1 qos 1 state/queued/a one for 7",
            "2 qos 2 state/queued/b two for 7",
            "4 qos 1 state/queued/a three for 7",
        ],
        subscribed={"state/queued/new": 2},
    )


def queued_for_mqtt_3(writer: Writer) -> Expected:
    """The same for MQTT 3.1.1, with two subscriptions that overlap."""
    client = connected(writer.first.port, "queued-3", MQTT_3_1_1)
    client.disconnect()
    client = connected(writer.first.port, "queued-3", MQTT_3_1_1, clean_start=False)
    client.subscribe("state/three/+", qos=1)
    client.subscribe("state/three/a", qos=2)
    client.disconnect()
    writer.publish("state/three/a", "one", qos=2)
    writer.publish("state/three/b", "two", qos=2)
    return _expected(
        ["1 qos 2 state/three/a one", "2 qos 1 state/three/b two"],
        version=MQTT_3_1_1,
        subscribed={"state/three/a": 2, "state/three/new": 1},
    )


def in_flight_when_killed(writer: Writer) -> Expected:
    """Its node was killed with handshakes at each step."""
    _stop_in_each_handshake(writer, writer.connect("killed"), "killed")
    return _expected(
        ["1 qos 1 state/killed/x q1 dup", "3 qos 2 state/killed/x q2 dup"],
        released=[4],
        subscribed={"state/killed/new": 2},
    )


def in_flight_when_left(writer: Writer) -> Expected:
    """It had said DISCONNECT in the midst of its handshakes; more came later."""
    client = writer.connect("left")
    _stop_in_each_handshake(writer, client, "left")
    client.disconnect()
    writer.publish("state/left/x", "later", qos=2)
    return _expected(
        ["1 qos 1 state/left/x q1 dup", "3 qos 2 state/left/x q2 dup", "6 qos 2 state/left/x later"],
        released=[4],
        subscribed={"state/left/new": 2},
    )


def _stop_in_each_handshake(writer: Writer, client: WireClient, name: str) -> None:
    """Five messages: not acknowledged, acknowledged; not answered, PUBREL waits for PUBCOMP, completed."""
    client.subscribe(f"state/{name}/#", qos=2)
    writer.publish(f"state/{name}/x", "q1", "q1 done", qos=1)
    writer.publish(f"state/{name}/x", "q2", "q2 released", "q2 done", qos=2)
    assert [client.expect(Publish).packet_id for _ in range(5)] == [1, 2, 3, 4, 5]
    client.send(Puback(2), Pubrec(4), Pubrec(5))
    client.expect_all(Pubrel(4), Pubrel(5))
    client.send(Pubcomp(5))
    client.ping()


def on_the_other_node(writer: Writer) -> Expected:
    """Connected to a node that had stopped reading what it was sent: entries wait in the queue, hand-overs in
    the inbox."""
    client = writer.connect("elsewhere", node=writer.second)
    client.subscribe("state/elsewhere", qos=1)
    direct = writer.connect("direct", node=writer.second, expiry=0)
    direct.subscribe("state/elsewhere", "state/direct/#", qos=1)
    direct.subscribe("state/direct/qos0")
    return _expected(["1 qos 1 state/elsewhere handed over dup"], subscribed={"state/elsewhere": 1})


def receiving(writer: Writer) -> Expected:
    """A publisher at QoS 2: one message was routed and waits for PUBREL, one was stored and not routed."""
    client = writer.connect("receiving")
    client.send(Publish("state/received", b"routed", 2, False, False, 10, None))
    assert client.expect(Pubrec).reason_code == 0
    caller = writer.caller_for(writer.first)
    _until(lambda: caller.hash(_rx("receiving")).get(b"10", b"").startswith(b"1"))
    message = [11, b"token-of-eleven"]
    request = receive.receive(
        keys.bucket_of("receiving"), "receiving", writer.epoch("receiving"), message, 100
    )
    assert caller.ask(request) == [0]
    return _expected([], publishes={"10": ["state/received", "routed"], "11": ["state/received", "stored"]})


def _rx(client_id: str) -> str:
    return keys.receiving(PREFIX, keys.bucket_of(client_id), client_id)


def listener_of_receiving(writer: Writer) -> Expected:
    """Has the routed one in its queue, and must get the other one once, when it is sent again."""
    client = writer.connect("received")
    client.subscribe("state/received", qos=2)
    client.disconnect()
    return _expected(["1 qos 2 state/received routed", "2 qos 2 state/received stored"], after="receiving")


def replaying(writer: Writer) -> Expected:
    """Its subscription was stored, and nothing of the retained messages yet."""
    writer.retain("state/retained/a", "kept")
    writer.retain("state/retained/far", "kept", FAR)
    writer.retain("state/retained/late", "gone", SOON)
    client = writer.connect("replaying")
    client.subscribe("state/retained/#", qos=1, retain_handling=2)
    client.disconnect()
    session = keys.session(PREFIX, keys.bucket_of("replaying"), "replaying")
    writer.client.hset(session, "r:state/retained/#", "")
    return _expected(["1 qos 1 state/retained/a kept retain", "2 qos 1 state/retained/far kept retain"])


def waiting(writer: Writer) -> Expected:
    """Has a deadline that is far away, and a will that waits."""
    will = Will("state/will/waiting", b"never", 1, False, Properties(will_delay_interval=FAR))
    writer.connect("waiting", expiry=FAR, will=will).close()
    _until(lambda: Caller(writer.client, PREFIX).field("owner", "waiting") is None)
    return _expected([])


def sharing(writer: Writer) -> Expected:
    """A shared subscription of which nobody is there: the message waits for the group."""
    client = writer.connect("sharing")
    client.subscribe("$share/group/state/shared/+", qos=1)
    client.disconnect()
    writer.publish("state/shared/a", "waits", qos=1)
    return _expected(["* qos 1 state/shared/a waits"], subscribed={"state/shared/b": 1})


def member(writer: Writer) -> Expected:
    """The only member that is there; its node was killed."""
    client = writer.connect("member")
    client.subscribe("$share/others/state/others/+", qos=1)
    return _expected([], subscribed={"state/others/b": 1})


def excluding(writer: Writer) -> Expected:
    """A subscription that nobody else can have."""
    client = writer.connect("excluding")
    client.subscribe("$exclusive/state/exclusive/+", qos=1)
    client.disconnect()
    return _expected([], subscribed={"state/exclusive/a": 1})


SESSIONS: Final[dict[str, _Story]] = {
    "queued": queued,
    "queued-3": queued_for_mqtt_3,
    "killed": in_flight_when_killed,
    "left": in_flight_when_left,
    "elsewhere": on_the_other_node,
    "received": listener_of_receiving,
    "receiving": receiving,
    "replaying": replaying,
    "waiting": waiting,
    "sharing": sharing,
    "member": member,
    "excluding": excluding,
}


def _expected(
    publishes_to_it: list[str],
    *,
    version: int = 5,
    released: list[int] | None = None,
    subscribed: dict[str, int] | None = None,
    publishes: dict[str, list[str]] | None = None,
    after: str = "",
) -> Expected:
    """`released`: PUBREL that come first; then the messages, as `shown` has them (*: with
    any Packet Identifier).
    `publishes`: what it sends again. `subscribed`: topics and the QoS at which it gets what is published
    there.
    `after`: whom it waits for."""
    return {
        "version": version,
        "released": released or [],
        "messages": publishes_to_it,
        "publishes": publishes or {},
        "subscribed": subscribed or {},
        "after": after,
    }


# What belongs to no session that comes back


def others(writer: Writer) -> Expected:
    """Retained messages, wills and a delayed message, a session that has expired, a dead letter, bans."""
    watcher = writer.connect("watcher")
    watcher.subscribe("state/will/+", qos=1)
    watcher.disconnect()
    writer.connect("expired", expiry=SOON).disconnect()
    caller = writer.caller_for(writer.first)
    caller.ask(letters.letter("somebody", "state/lost", "queue_full"))
    _ban(caller, "banned-*", FAR)
    _ban(caller, "barred", 0)
    will = pack_will("state/will/leaps", b"leased", 1, False, b"", None, "leaps")
    caller.detach(caller.claim("leaps", expiry=NEVER, will=will), "leaps")  # and nobody has published it
    writer.publish(f"$delayed/{_DELAY}/state/will/later", "in time", qos=1)
    delayed = Properties(will_delay_interval=SOON)
    writer.connect("dies", will=Will("state/will/dies", b"killed", 1, False))
    writer.connect("fades", will=Will("state/will/fades", b"delayed", 2, False, delayed)).close()
    _until(lambda: Caller(writer.client, PREFIX).field("owner", "fades") is None)
    return {
        "retained": {"state/retained/a": "kept", "state/retained/far": "kept"},
        "wills": {
            "state/will/dies": "killed",
            "state/will/fades": "delayed",
            "state/will/leaps": "leased",
            "state/will/later": "in time",
        },
        "expired": ["expired"],
        "letters": [["somebody", "state/lost", "queue_full"]],
        "banned": ["banned-1", "barred"],
    }


def users_and_rules(caller: Caller) -> Expected:
    """A user with all that one can have, one that was changed, one that is gone; rules."""
    allowed, keys = Allowed(("a/%u",), ("b/#",)), ScramKeys(4096, b"salt\xff", b"stored\xff", b"server\xff")
    everything = User(_HASH, frozenset({"g", "h"}), True, allowed, keys)
    caller.ask(users.put_user("ann", users.pack_user(everything), 0, renews=True))
    for seen, user in enumerate((User(_HASH), User(_HASH, is_enabled=False))):
        caller.ask(users.put_user("bob", users.pack_user(user), 2 * seen, renews=not seen))
    caller.ask(users.put_user("gone", users.pack_user(everything), 0, renews=True))
    caller.ask(users.delete_user("gone"))
    caller.ask(users.users_secret(b"secret\xff"))
    caller.ask(users.put_rules("rules = []"))
    return {"users": ["ann", "bob"], "rules": "rules = []"}


def _ban(caller: Caller, client_id: str, seconds: int) -> None:
    caller.ask(
        bans.add(
            target_of("client", client_id),
            reason="a test",
            by="write_state",
            milliseconds=seconds * 1000,
            is_automatic=False,
            maximum=10,
            patterns_maximum=10,
        )
    )


def shown(publish: Publish) -> str:
    """A message as it stands in the file of what is expected."""
    words = [f"{publish.packet_id} qos {publish.qos} {publish.topic} {publish.payload.decode()}"]
    if publish.retain:
        words.append("retain")
    if publish.dup:
        words.append("dup")
    identifiers = publish.properties.subscription_identifier if publish.properties is not None else ()
    words += [f"for {identifier}" for identifier in identifiers]
    return " ".join(words)


def _until(condition: Callable[[], bool]) -> None:
    """What a node does a moment later."""
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "the node does not do it"
        time.sleep(0.01)


def write(directory: Path) -> None:
    """Both files."""
    with tempfile.TemporaryDirectory() as scratch, running_redis(Path(scratch) / "redis") as server:
        with (
            running_nodes(Path(scratch), server.url, 2, _ENVIRONMENT) as (first, second),
            server.client() as client,
        ):
            writer = Writer(first, second, client)
            expected: Expected = {
                "schema": SCHEMA_VERSION,
                "release": broker.__version__,
                "sessions": {name: story(writer) for name, story in SESSIONS.items()},
            }
            second.freeze()
            writer.publish("state/elsewhere", "handed over", qos=1)
            expected |= others(writer)
            expected |= users_and_rules(writer.caller_for(writer.first))
            first.kill()
            second.kill()
            entries = dump(client, PREFIX)
        for connection in writer.open:
            connection.close()
    name = f"schema-{SCHEMA_VERSION}"
    state = "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n"
    (directory / f"{name}.json").write_text(state)
    (directory / f"{name}.expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write(STATE)
