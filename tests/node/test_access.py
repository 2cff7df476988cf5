"""Who comes in and what they may do, on two nodes with the files of one: real clients, good and bad."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.auth.password_file import hash_password
from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Properties,
    Puback,
    Publish,
    Pubrec,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient
from tests.tools import require_tool

PASSWORD = "corréct horse"
DENIED = ReasonCode.NOT_AUTHORIZED
RULES = """
[groups]
operators = ["olga"]

[[rules]]
effect = "allow"
groups = ["operators"]
filters = ["#", "$SYS/#"]

[[rules]]
effect = "deny"
filters = ["secret/#"]

[[rules]]
effect = "deny"
actions = ["subscribe"]
filters = ["home/%u/hidden"]

[[rules]]
effect = "allow"
users = ["*"]
filters = ["home/%u/#", "shared/#"]
"""


@dataclass(frozen=True)
class Site:
    """Two nodes of one broker, and their files."""

    nodes: tuple[NodeProcess, NodeProcess]
    passwords: Path
    rules: Path

    def write(self, file: Path, text: str) -> None:
        """Returns when all nodes have read it."""
        before = [self._readings(node, file) for node in self.nodes]
        file.write_text(text)
        deadline = time.monotonic() + 5
        while any(self._readings(node, file) == had for node, had in zip(self.nodes, before, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _readings(self, node: NodeProcess, file: Path) -> int:
        return sum(event["file"] == str(file) for event in node.events("read again"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    passwords, rules = directory / "passwords", directory / "rules.toml"
    hashed = hash_password(PASSWORD)
    passwords.write_text("".join(f"{name}:{hashed}\n" for name in ("ann", "bob", "olga", "temp")))
    rules.write_text(RULES)
    environment = {
        "MOORLINE_AUTH__PASSWORD_FILE": str(passwords),
        "MOORLINE_AUTH__RULES_FILE": str(rules),
        "MOORLINE_AUTH__HASH_QUEUE": "5",
        "MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0",
    }
    with ExitStack() as stack:
        server = stack.enter_context(running_redis(directory / "redis"))
        nodes = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            node = running_node(directory / name, "--redis", server.url, environment=environment)
            nodes.append(stack.enter_context(node))
        yield Site((nodes[0], nodes[1]), passwords, rules)


class Opened:
    """Clients of one test; closed at its end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._clients: list[WireClient] = []

    def raw(self, version: int = MQTT_5, node: int = 0) -> WireClient:
        client = WireClient(self._site.nodes[node].port, version)
        self._clients.append(client)
        return client

    def __call__(
        self, user: str, client_id: str = "", version: int = MQTT_5, node: int = 0, clean_start: bool = True
    ) -> WireClient:
        client = self.raw(version, node)
        properties = None if clean_start or version != MQTT_5 else HOUR
        client_id = client_id or f"{user}-{len(self._clients)}"
        client.send(_connect(client_id, user, PASSWORD, version, None, properties, clean_start))
        assert client.expect(Connack).reason_code == 0
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def opened(site: Site) -> Iterator[Opened]:
    clients = Opened(site)
    yield clients
    clients.close()


def _connect(
    client_id: str,
    user: str | None,
    password: str | None,
    version: int = MQTT_5,
    will: Will | None = None,
    properties: Properties | None = None,
    clean_start: bool = True,
) -> Connect:
    secret = None if password is None else password.encode()
    return Connect(client_id, version, clean_start, 0, user, secret, will, properties)


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("user", "password", "code", "old_code"),
    [
        ("ann", PASSWORD, 0, 0),
        ("ann", "wrong", 0x86, 4),
        ("ann", None, 0x86, 4),
        ("nobody", PASSWORD, 0x86, 4),
        (None, None, 0x87, 5),
    ],
)
def test_who_comes_in(
    opened: Opened, node: int, user: str | None, password: str | None, code: int, old_code: int
) -> None:
    for version, expected in ((MQTT_5, code), (MQTT_3_1_1, old_code)):
        client = opened.raw(version, node)
        client.send(_connect("who", user, password if version == MQTT_5 or user else None, version))
        assert client.expect(Connack).reason_code == expected


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
def test_mosquitto_clients(site: Site, version: str, node: int) -> None:
    port = str(site.nodes[node].port)
    other = str(site.nodes[1 - node].port)
    publish = [
        require_tool("mosquitto_pub"),
        "-V",
        version,
        "-q",
        "1",
        "-t",
        "home/ann/mosquitto",
        "-m",
        "hello",
    ]
    subscribe = [require_tool("mosquitto_sub"), "-V", version, "-p", other, "-u", "ann", "-P", PASSWORD]
    subscribe += ["-t", "home/ann/mosquitto", "-C", "1", "-W", "8"]
    wrong = subprocess.run(
        [*publish, "-p", port, "-u", "ann", "-P", "wrong"], capture_output=True, check=False
    )
    assert wrong.returncode != 0
    nobody = subprocess.run([*publish, "-p", port], capture_output=True, check=False)
    assert nobody.returncode != 0
    retained = [*publish, "-r", "-p", port, "-u", "ann", "-P", PASSWORD]
    assert subprocess.run(retained, capture_output=True, check=False).returncode == 0
    got = subprocess.run(subscribe, capture_output=True, check=False)
    assert got.stdout == b"hello\n"


def test_paho_is_told(site: Site) -> None:
    codes: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=paho.MQTTv5)
    client.username_pw_set("ann", "wrong")
    client.on_connect = lambda *arguments: codes.append(arguments[3].value)
    client.connect("127.0.0.1", site.nodes[0].port)
    for _ in range(50):
        if codes:
            break
        client.loop(0.1)
    assert codes == [0x86]


def test_a_flood_of_guesses_keeps_nobody_out(site: Site, opened: Opened) -> None:
    """From another address, more than can be hashed: most are told that the server is busy."""
    codes = []
    guesses = []
    for number in range(60):
        carrier = socket.create_connection(
            ("127.0.0.1", site.nodes[0].port), 5, source_address=("127.0.0.2", 0)
        )
        guess = WireClient(0, carrier=carrier)
        guess.send(_connect(f"guess-{number}", "ann", f"wrong-{number}"))
        guesses.append(guess)
    honest = opened.raw()
    honest.send(_connect("honest", "bob", PASSWORD + "?"))  # not remembered: it has to be hashed
    assert honest.expect(Connack).reason_code == 0x86
    for guess in guesses:
        codes.append(guess.expect(Connack).reason_code)
        guess.close()
    assert set(codes) == {0x86, 0x89}
    assert codes.count(0x89) >= 20


def test_publishing(opened: Opened) -> None:
    control = opened("olga")
    control.subscribe("#", qos=1)
    client = opened("ann")
    for _ in range(2):  # asked, and remembered
        assert client.publish("home/ann/x", b"1", 1) == 0
        assert client.publish("home/bob/x", b"2", 1) == DENIED
        assert client.publish("home/bob/x", b"3", 2) == DENIED
        assert client.publish("secret", b"4", 2) == DENIED
        client.publish("home/bob/x", b"5", 0)
        client.publish("shared/x", b"6", 0)
    assert control.payloads(4) == [b"1", b"6", b"1", b"6"]
    control.assert_silence()


def test_many_in_one_chunk_stay_in_order(opened: Opened) -> None:
    client = opened("ann")
    client.send(
        *(Publish(f"home/{'ann' if n % 2 else 'bob'}/{n}", b"", 1, False, False, n) for n in range(1, 9)),
        Publish("home/bob/x", b"", 2, False, False, 9),
    )
    codes = [client.expect(Puback).reason_code for _ in range(8)]
    assert [code == DENIED for code in codes] == [False, True] * 4
    assert client.expect(Pubrec).reason_code == DENIED
    assert client.ping() == []


def test_before_mqtt_5_nobody_is_told(opened: Opened) -> None:
    client = opened("ann", version=MQTT_3_1_1)
    assert client.publish("home/bob/x", b"", 1) == 0
    assert client.publish("home/bob/x", b"", 2) == 0
    assert client.subscribe("home/bob/x").reason_codes == [0x80]


def test_subscribing(opened: Opened) -> None:
    client = opened("ann")
    allowed = ["home/ann/x", "shared/#", "$share/g/shared/+", "home/ann/x/hidden"]
    assert client.subscribe(*allowed).reason_codes == [0] * 4
    denied = [
        "#", "+/ann/x", "home/+/x", "home/ann/#", "home/ann/+", "home/ann/hidden", "$share/g/home/bob/x",
        "secret/x", "$SYS/#", "$SYS/broker/version",
    ]  # fmt: skip
    assert client.subscribe(*denied).reason_codes == [DENIED] * len(denied)
    assert opened("olga").subscribe("$SYS/#", "#").reason_codes == [0, 0]


def test_a_will_is_looked_at(opened: Opened) -> None:
    client = opened.raw()
    client.send(_connect("will", "ann", PASSWORD, will=Will("home/bob/x", b"", 0, False)))
    assert client.expect(Connack).reason_code == DENIED
    control = opened("olga")
    control.subscribe("home/ann/gone")
    client = opened.raw()
    client.send(_connect("will", "ann", PASSWORD, will=Will("home/ann/gone", b"", 1, False)))
    assert client.expect(Connack).reason_code == 0
    client.close()
    assert control.message().topic == "home/ann/gone"


def test_a_name_can_not_widen_a_rule(site: Site, opened: Opened) -> None:
    names = ("+", "$#", "a/b")
    more = "".join(f"{name}:{hash_password(PASSWORD)}\n" for name in names)
    site.write(site.passwords, site.passwords.read_text() + more)
    for name in names:
        client = opened(name)
        assert client.subscribe("home/+/x", "home/ann/x", "shared/x").reason_codes == [DENIED, DENIED, 0]
        assert client.publish("home/a/b/y", b"", 1) == DENIED


def test_revoked_rights(site: Site, opened: Opened) -> None:
    """On both nodes, of direct and persistent sessions, within a second; and given back."""
    watchers = [opened("bob", f"revoked-{n}", node=n, clean_start=n == 0) for n in (0, 1)]
    for watcher in watchers:
        assert watcher.subscribe("shared/a", "home/bob/a", qos=1).reason_codes == [1, 1]
    publisher = opened("olga")
    try:
        site.write(site.rules, RULES.replace('"shared/#"', '"shared/b"'))
        assert watchers[0].publish("shared/a", b"", 1) == DENIED
        assert watchers[0].publish("shared/b", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
        publisher.publish("shared/a", b"not this", 1)
        publisher.publish("home/bob/a", b"this", 1)
        for watcher in watchers:
            assert watcher.payloads(1) == [b"this"]
            watcher.assert_silence()
    finally:
        site.write(site.rules, RULES)


def test_a_will_is_looked_at_again_when_it_is_due(site: Site, opened: Opened) -> None:
    """The rules have changed since the CONNECT."""
    control = opened("olga")
    control.subscribe("home/ann/late", "shared/late")
    clients: list[WireClient] = []
    for topic in ("home/ann/late", "shared/late"):
        client = opened.raw(node=1)
        will = Will(topic, b"", 1, False)
        client.send(_connect(f"late-{len(clients)}", "ann", PASSWORD, will=will))
        assert client.expect(Connack).reason_code == 0
        clients.append(client)
    try:
        site.write(site.rules, RULES.replace('"home/%u/#", ', ""))
        for client in clients:
            client.close()
        assert control.message().topic == "shared/late"
        control.assert_silence()
        (event,) = [event for event in site.nodes[1].events("denied") if event["event"] == "will"]
        assert (event["topic"], event["username"]) == ("home/ann/late", "ann")
    finally:
        site.write(site.rules, RULES)


def test_a_file_with_mistakes_changes_nothing(site: Site, opened: Opened) -> None:
    try:
        site.rules.write_text(RULES + "\n[[rules]]\neffect = 'perhaps'\nfilters = ['a#']\n")
        output = site.nodes[0].wait_for("not taken, the one before holds")
        assert "rules.4.effect" in output
        assert "'a#' is not a Topic Filter" in output
        assert opened("ann").subscribe("shared/#").reason_codes == [0]
        assert 'moorline_auth_reloads_total{file="rules_file_refused"} ' in site.nodes[0].get("/metrics").text
    finally:
        site.write(site.rules, RULES)


def test_who_loses_the_password_is_sent_away(site: Site, opened: Opened) -> None:
    clients = [opened("temp", f"temp-{node}", node=node) for node in (0, 1)]
    text = site.passwords.read_text()
    site.write(
        site.passwords, "".join(line for line in text.splitlines(True) if not line.startswith("temp:"))
    )
    for client in clients:
        assert client.wait_refused() == DENIED
    client = opened.raw()
    client.send(_connect("temp", "temp", PASSWORD))
    assert client.expect(Connack).reason_code == 0x86


def test_what_is_denied_is_recorded_without_secrets(site: Site, opened: Opened) -> None:
    secret = "s3cr3t-passw0rd"
    client = opened.raw()
    client.send(_connect("recorded", "ann", secret))
    assert client.expect(Connack).reason_code == 0x86
    client = opened("ann", "recorded")
    client.publish("home/bob/recorded", b"payl0ad", 1)
    client.send(Subscribe(7, [SubscriptionRequest("home/bob/recorded", 0)]))
    assert client.expect(Suback).reason_codes == [DENIED]
    events = [event for event in site.nodes[0].events("denied") if event["client_id"] == "recorded"]
    assert [event["event"] for event in events] == ["connect", "publish", "subscribe"]
    assert {event["username"] for event in events} == {"ann"}
    assert events[1]["topic"] == "home/bob/recorded"
    output = site.nodes[0].log.read_text()
    for hidden in (secret, "payl0ad", PASSWORD, "argon2id"):
        assert hidden not in output
    text = site.nodes[0].get("/metrics").text
    assert 'moorline_denied_total{action="publish"} ' in text
    assert 'moorline_authentications_total{result="bad_user_name_or_password"} ' in text
