"""Plug-ins that are asked who comes in and what may be done, and take their time; and tokens. One node."""

import json
import os
import sys
import time
from collections.abc import Iterator

import jwt
import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient

DENIED = 0x87
SECRET = "0123456789abcdef0123456789abcdef"
MODULE = """
import anyio
from broker.auth import Decision, Denied, Identity


class People:
    async def authenticate(self, credentials):
        if credentials.username == "broken":
            raise RuntimeError("as it was asked to")
        if credentials.username == "slow":
            await anyio.sleep_forever()
        if credentials.username == "busy":
            await anyio.sleep(0.2)
        if credentials.username == "odd":
            return "no verdict"
        return Identity(credentials.username) if credentials.password == b"right" else None


class Gate:
    async def authorize(self, access):
        if "slow" in access.topic:
            await anyio.sleep(0.2)
        if "broken" in access.topic:
            raise RuntimeError("as it was asked to")
        return Decision.DENY if "no" in access.topic or access.retain else Decision.ALLOW
"""
ENTRIES = "[moorline.authenticators]\npeople = plugged:People\n[moorline.authorizers]\ngate = plugged:Gate\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("node")
    plugins = directory / "plugins"
    (plugins / "plugged-1.dist-info").mkdir(parents=True)
    (plugins / "plugged.py").write_text(MODULE)
    (plugins / "plugged-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugged\nVersion: 1\n"
    )
    (plugins / "plugged-1.dist-info" / "entry_points.txt").write_text(ENTRIES)
    (directory / "secret").write_text(SECRET)
    keys = directory / "keys.toml"
    keys.write_text("[[keys]]\nalgorithm = 'HS256'\nsecret_file = 'secret'\n")
    (directory / "rules.toml").write_text("rules = []\n")
    environment = {
        "MOORLINE_AUTH__RULES_FILE": str(directory / "rules.toml"),
        "MOORLINE_AUTH__ON_REVOKED": "disconnect",
        "MOORLINE_AUTH__AUTHENTICATORS": '["people"]',
        "MOORLINE_AUTH__AUTHORIZERS": '["gate"]',
        "MOORLINE_AUTH__JWT_KEYS": str(keys),
        "MOORLINE_AUTH__TIMEOUT_SECONDS": "1",
        "MOORLINE_AUTH__DENIED_PUBLISH": "disconnect",
        "PYTHONPATH": os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")]),
    }
    program = (sys.executable, "-m", "broker.__main__")  # not forked: it has a path of its own
    with running_node(directory, environment=environment, program=program) as node:
        yield node


def _let_in(
    clients: Clients, suffix: str, user: str = "ann", version: int = MQTT_5, will: Will | None = None
) -> WireClient:
    client = clients.raw(version)
    client.send(Connect(clients.id_of(suffix), version, True, 0, user, b"right", will))
    assert client.expect(Connack).reason_code == 0
    return client


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("ann", b"right", 0),
        ("ann", b"wrong", 0x86),
        ("broken", b"right", 0x88),
        ("slow", b"right", 0x88),
        ("odd", b"right", 0x83),
    ],
)
def test_who_comes_in(client: Clients, user: str, password: bytes, code: int) -> None:
    raw = client.raw()
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, user, password))
    assert raw.expect(Connack).reason_code == code


def test_what_is_sent_before_connack_waits(client: Clients) -> None:
    raw = client.raw()
    raw.send(
        Connect(client.id_of("c"), MQTT_5, True, 0, "busy", b"right"),
        Publish(client.id_of("t"), b"", 1, False, False, 1),
    )
    assert raw.expect(Connack).reason_code == 0
    assert raw.expect(Puback).packet_id == 1


def test_one_that_has_gone_before_it_is_let_in_harms_nobody(client: Clients) -> None:
    raw = client.raw()
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, "busy", b"right"))
    raw.close()
    other = _let_in(client, "c", "busy")
    assert other.ping() == []


def test_packets_keep_their_order_while_a_plugin_is_asked(client: Clients) -> None:
    topic = client.id_of("t")
    watcher = _let_in(client, "watcher")
    assert watcher.subscribe(f"{topic}/#", qos=1).reason_codes == [1]
    raw = _let_in(client, "c")
    names = ["slow1", "a", "no", "slow2", "b", "slow1", "broken"]
    raw.send(
        *(Publish(f"{topic}/{each}", b"", 1, False, False, n) for n, each in enumerate(names, 1)),
        Subscribe(9, [SubscriptionRequest(f"{topic}/slow/#", 0), SubscriptionRequest(f"{topic}/no", 0)]),
        Pingreq(),
    )
    pubacks = [raw.expect(Puback) for _ in names]
    assert [puback.packet_id for puback in pubacks] == [1, 2, 3, 4, 5, 6, 7]
    assert [puback.reason_code for puback in pubacks] == [0, 0, DENIED, 0, 0, 0, DENIED]
    rest = [raw.next(), raw.next()]  # the SUBACK may come after a PINGRESP, as it is stored first
    assert {type(packet) for packet in rest} == {Suback, Pingresp}
    assert next(packet for packet in rest if isinstance(packet, Suback)).reason_codes == [0, DENIED]
    assert [watcher.message().topic.rpartition("/")[2] for _ in range(5)] == [
        "slow1",
        "a",
        "slow2",
        "b",
        "slow1",
    ]


def test_who_leaves_while_a_plugin_is_asked_has_left_in_order(client: Clients) -> None:
    """Its DISCONNECT counts, though it comes behind: there is no will, and the message is not lost."""
    topic = client.id_of("t")
    watcher = _let_in(client, "watcher")
    watcher.subscribe(f"{topic}/#")
    raw = _let_in(client, "c", will=Will(f"{topic}/will", b"", 0, False))
    raw.send(Publish(f"{topic}/slow", b"last words", 0, False, False, 0), Disconnect(0))
    raw.close()
    assert watcher.message().payload == b"last words"
    watcher.assert_silence(0.3)


def test_who_is_cut_off_while_a_plugin_is_asked_has_a_will(client: Clients) -> None:
    topic = client.id_of("t")
    watcher = _let_in(client, "watcher")
    watcher.subscribe(f"{topic}/#")
    raw = _let_in(client, "c", will=Will(f"{topic}/will", b"", 0, False))
    raw.send(Publish(f"{topic}/slow", b"", 0, False, False, 0))
    raw.close()
    assert [watcher.message().topic for _ in range(2)] == [f"{topic}/slow", f"{topic}/will"]


def test_bad_bytes_behind_a_question(client: Clients) -> None:
    raw = _let_in(client, "c")
    raw.send_bytes(b"\x30\x08\x00\x04slow\x00x" + b"\xff\xff\xff\xff\xff")
    assert raw.wait_refused() in (0x81, 0x82)


def test_retained_messages_are_for_a_plugin_to_see(client: Clients) -> None:
    raw = _let_in(client, "c")
    topic = client.id_of("t")
    assert raw.publish(topic, b"", 1) in (0, 0x10)
    assert raw.publish(topic, b"", 1, retain=True) == DENIED


def test_a_will_is_asked_about(client: Clients) -> None:
    raw = client.raw()
    will = Will(client.id_of("slow/no"), b"", 0, False)
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, "ann", b"right", will))
    assert raw.expect(Connack).reason_code == DENIED


def test_mqtt_3_clients_are_disconnected_if_set(client: Clients) -> None:
    raw = _let_in(client, "c", version=MQTT_3_1_1)
    raw.send(Publish("no", b"", 1, False, False, 1))
    assert raw.wait_closed() == []


def test_who_loses_a_right_is_disconnected_if_set(client: Clients, node: NodeProcess) -> None:
    topic = client.id_of("revoked")
    raw = client.raw()
    hour = Properties(session_expiry_interval=3600)
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, "ann", b"right", None, hour))
    raw.expect(Connack)
    assert raw.subscribe(topic, qos=1).reason_codes == [1]
    other = _let_in(client, "other")
    other.subscribe(f"{topic}/x")
    (node.directory / "rules.toml").write_text(f"rules = [{{effect = 'deny', filters = ['{topic}']}}]\n")
    assert raw.wait_refused() == DENIED
    assert other.ping() == []
    raw = client.raw()
    raw.send(Connect(client.id_of("c"), MQTT_5, False, 0, "ann", b"right", None, hour))
    assert raw.expect(Connack).session_present
    assert raw.unsubscribe(topic).reason_codes == [0x11]


def _token(**claims: object) -> bytes:
    return jwt.encode({"sub": "tom", **claims}, SECRET, "HS256").encode()


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_a_token_lets_in_until_it_ends(client: Clients, version: int) -> None:
    raw = client.raw(version)
    raw.send(Connect(client.id_of("c"), version, True, 0, "x", _token(exp=int(time.time()) + 2)))
    assert raw.expect(Connack).reason_code == 0
    assert raw.ping() == []
    raw.timeout_seconds = 5
    last = raw.wait_closed()
    assert [packet.reason_code for packet in last if isinstance(packet, Disconnect)] == (
        [0xA0] if version == MQTT_5 else []
    )


def test_a_token_that_is_not_taken(client: Clients, node: NodeProcess) -> None:
    for token in (_token(), _token(exp=1), _token(exp=time.time() + 60, client_id="other"), b"eyJ.e30.x"):
        raw = client.raw()
        raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, "x", token))
        assert raw.expect(Connack).reason_code in (0x86, 0x87)
        assert token.decode() not in node.log.read_text()


def test_no_traceback_but_those_of_plugins(node: NodeProcess) -> None:
    lines = [json.loads(line) for line in node.log.read_text().splitlines() if line.startswith("{")]
    failures = [line for line in lines if "exception" in line]
    expected = {"authenticator failed", "authorizer failed", "client not answered"}
    assert {line["message"] for line in failures} <= expected
