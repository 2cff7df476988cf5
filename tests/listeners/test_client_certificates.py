"""Certificates of clients, on two nodes with the same files: who comes in, and what becomes of them when
files change."""

import datetime
import json
import queue
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from prometheus_client.parser import text_string_to_metric_families

from broker.auth.password_file import hash_password
from broker.mqtt import Connack, Connect, Disconnect, ReasonCode
from tests.e2e.program import SECONDS, Program
from tests.listeners.authority import Authority, with_other_bytes
from tests.listeners.frames import Carrier, Peer, trusting
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import WireClient
from tests.tools import Certificate, require_node_package, require_tool

PASSWORD = "corréct horse"
DENIED = ReasonCode.NOT_AUTHORIZED
NAMES = ("plain", "mtls", "web", "open", "words", "modern")
"""The listeners, in the order in which the nodes tell where they are."""

RULES = """
[[rules]]
effect = "allow"
listeners = ["open"]
filters = ["guests/#"]

[[rules]]
effect = "deny"
listeners = ["open"]
filters = ["#"]

[[rules]]
effect = "allow"
filters = ["things/%cn/#", "users/%u/#", "all/#"]
"""


@dataclass(frozen=True)
class Site:
    """Two nodes and their files."""

    nodes: tuple[NodeProcess, NodeProcess]
    directory: Path
    authority: Authority
    between: Authority
    server: Certificate
    crl: Path

    def port(self, name: str, node: int = 0) -> int:
        """Of a listener."""
        lines = [line.split() for line in self.nodes[node].output().splitlines() if line.startswith("  ")]
        places = [line[1] for line in lines if line[0] in ("mqtt", "mqtts", "wss")]
        return int(places[NAMES.index(name)].partition("/")[0].rpartition(":")[2])

    def context(self, own: Certificate | None) -> ssl.SSLContext:
        """A client's side of TLS."""
        context = trusting(str(self.authority.file))
        if own is not None:
            context.load_cert_chain(own.file, own.key)
        return context

    def wire(self, listener: str, own: Certificate | None = None, node: int = 0) -> WireClient:
        """A client that has not said anything yet."""
        port = self.port(listener, node)
        if listener in ("plain", "open", "words"):
            return WireClient(port)
        peer = Peer(port, self.context(own))
        return WireClient(0, carrier=Carrier(peer.upgrade()) if listener == "web" else peer.socket)

    def metric(self, name: str, node: int = 0, **labels: str) -> float:
        """A sample of /metrics."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.nodes[node].get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def change(self, files: Callable[[], object], outcome: str = "") -> None:
        """Changes files; returns when both listeners that have them have seen that, on all nodes."""

        def counts() -> list[float]:
            return [
                self.metric("moorline_auth_reloads_total", node, file=f"listeners.{listener}{outcome}")
                for node in range(len(self.nodes))
                for listener in ("mtls", "web")
            ]

        before = counts()
        files()
        deadline = time.monotonic() + SECONDS
        while any(now == had for now, had in zip(counts(), before, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _config(site: Path, authority: Authority, server: Certificate, crl: Path) -> str:
    pair = f"certificate = '{server.file}'\nkey = '{server.key}'\n"
    mutual = f"{pair}client_ca = '{authority.file}'\ncrl = '{crl}'\n"
    named = authority.server("a.example", "*.wild.example", file="named")
    exact = authority.server("exact.wild.example", file="exact")
    more = "".join(
        f"[[listeners.mtls.more_certificates]]\ncertificate = '{each.file}'\nkey = '{each.key}'\n"
        for each in (named, exact)
    )
    return f"""
        [auth]
        certificate_username = "common_name"
        password_file = "{site / "passwords"}"
        rules_file = "{site / "rules.toml"}"
        [listeners.mtls]
        address = "mqtts://127.0.0.1:0"
        {mutual}
        {more}
        [listeners.web]
        address = "wss://127.0.0.1:0"
        client_certificates = "optional"
        {mutual}
        [listeners.open]
        address = "mqtt://127.0.0.1:0"
        authentication = []
        [listeners.words]
        address = "mqtt://127.0.0.1:0"
        authentication = ["password_file"]
        allow_anonymous = true
        [listeners.modern]
        address = "mqtts://127.0.0.1:0"
        tls_minimum = "1.3"
        {pair}
        """


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    authority = Authority(directory)
    between = Authority(directory, "between", authority)
    server, crl = authority.server("localhost", file="server"), directory / "revoked.pem"
    revoked = authority.issue("revoked")
    crl.write_bytes(authority.crl(revoked) + between.crl())
    (directory / "passwords").write_text(f"ann:{hash_password(PASSWORD)}\n")
    (directory / "rules.toml").write_text(RULES)
    config = directory / "moorline.toml"
    config.write_text(_config(directory, authority, server, crl))
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(directory / "redis"))
        nodes = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            node = running_node(directory / name, "--config", str(config), "--redis", redis.url,
                                "--log-level", "debug")  # fmt: skip
            nodes.append(stack.enter_context(node))
        yield Site((nodes[0], nodes[1]), directory, authority, between, server, crl)


def _connect(client: WireClient, client_id: str, user: str | None = None, password: str | None = None) -> int:
    secret = password.encode() if password is not None else None
    client.send(Connect(client_id, client.version, True, 0, user, secret, None, None))
    return client.expect(Connack).reason_code


def _may(client: WireClient, topic: str) -> bool:
    """Whether it may publish there."""
    code = client.publish(topic, b"", 1)
    assert code in (0, ReasonCode.NO_MATCHING_SUBSCRIBERS, DENIED)
    return code != DENIED


def _expect_alert(port: int, context: ssl.SSLContext, alert: str, name: str | None = "localhost") -> None:
    """With TLS 1.3 it comes when the client has done all that it has to do."""
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        pytest.raises(ssl.SSLError, match=rf"(?i){alert}"),
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        secure.recv(1)


def test_a_certificate_says_who_a_client_is(site: Site) -> None:
    """On both nodes, by TLS and by WebSocket; the User Name of the CONNECT does not count."""
    pump = site.authority.issue("pump")
    with site.wire("mtls", pump) as one, site.wire("web", pump, node=1) as two:
        assert _connect(one, "pump-1", "ann") == 0
        assert _connect(two, "pump-2", "ann", "wrong") == 0
        assert two.subscribe("things/pump/#", "users/pump/#", "users/ann/#", "things/#").reason_codes == [
            0, 0, DENIED, DENIED,
        ]  # fmt: skip
        assert not _may(one, "users/ann/x")
        assert one.publish("users/pump/x", b"1", 1) == 0
        assert one.publish("things/pump/x", b"2", 1) == 0
        assert two.payloads(2) == [b"1", b"2"]


def test_an_authority_in_between(site: Site) -> None:
    with site.wire("mtls", site.between.issue("valve")) as client:
        assert _connect(client, "valve") == 0
        assert _may(client, "things/valve/x")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bad_certificates_get_an_alert(site: Site, version: ssl.TLSVersion) -> None:
    """And are counted, and the log says why."""
    other = Authority(site.directory, "stranger")
    expired = datetime.timedelta(days=-1)
    before = site.metric("moorline_handshakes_failed_total", reason="client_certificate")
    revoked = Certificate(site.directory / "revoked.crt", site.directory / "revoked.key")
    cases: list[tuple[Certificate | None, str, str]] = [
        (other.issue("x"), "unknown ca", "unable to get local issuer certificate"),
        (site.authority.issue("old", lasts=expired), "certificate expired", "certificate has expired"),
        (revoked, "certificate revoked", "certificate revoked"),
        (None, "handshake failure|certificate required", "peer did not return a certificate"),
    ]
    for number, (own, alert, logged) in enumerate(cases, 1):
        context = site.context(own)
        context.maximum_version = version
        _expect_alert(site.port("mtls"), context, alert)
        site.nodes[0].wait_for(f"TLS handshake failed: .*{logged}")
        failed = site.metric("moorline_handshakes_failed_total", reason="client_certificate")
        assert failed == before + number


def test_names_that_are_none(site: Site) -> None:
    """No common name, or one that would not end up on one line: nobody. One with a slash gets no topics."""
    for number, name in enumerate((None, "a\nb")):
        own = site.authority.issue(name, organization="Acme", file=f"nameless-{number}")
        with site.wire("mtls", own) as client:
            assert _connect(client, f"nameless-{number}", "ann", PASSWORD) == DENIED
    with site.wire("mtls", site.authority.issue("a/b", file="slash")) as client:
        assert _connect(client, "slash") == 0
        assert not _may(client, "things/a/b")
        assert _may(client, "all/x")


def test_names_that_are_no_text(site: Site) -> None:
    """Refused like others, without a trace of Python in the log."""
    own = site.authority.issue("binary", alternatives=[x509.RFC822Name("ABCDEFGH@example")])
    with_other_bytes(site.authority, own, b"ABCDEFGH@", b"AB\xff\xfeEFGH@")
    before = site.metric("moorline_handshakes_failed_total", reason="client_certificate")
    with Peer(site.port("mtls"), site.context(own)) as peer:
        peer.wait_eof()
    log = site.nodes[0].wait_for("TLS handshake failed: certificate unreadable")
    assert "Traceback" not in log
    assert site.metric("moorline_handshakes_failed_total", reason="client_certificate") == before + 1


def test_where_a_certificate_is_optional(site: Site) -> None:
    """Who has none is asked for something else; a bad one is refused all the same."""
    with site.wire("web") as ann, site.wire("web") as nobody:
        assert _connect(ann, "ann", "ann", PASSWORD) == 0
        assert _may(ann, "users/ann/x")
        assert not _may(ann, "things/ann/x")
        assert _connect(nobody, "nobody") == DENIED
    stranger = Authority(site.directory, "stranger").issue("x")
    _expect_alert(site.port("web"), site.context(stranger), "unknown ca")


def test_each_listener_asks_its_own(site: Site) -> None:
    """Nobody on one, passwords or nothing on another, all that there is on others; and rules know where."""
    with site.wire("open") as guest, site.wire("words") as named, site.wire("words") as anonymous:
        assert _connect(guest, "guest", "ann", "wrong") == 0
        assert _may(guest, "guests/x")
        assert not _may(guest, "users/ann/x")
        assert not _may(guest, "all/x")
        assert _connect(named, "named", "ann", PASSWORD) == 0
        assert not _may(named, "guests/x")
        assert _may(named, "users/ann/x")
        assert _connect(anonymous, "anonymous") == 0
        assert _may(anonymous, "all/x")
    with site.wire("words") as wrong, site.wire("plain") as nobody, site.wire("modern") as secure:
        assert _connect(wrong, "wrong", "ann", "wrong") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
        assert _connect(nobody, "nobody") == DENIED
        assert _connect(secure, "secure", "ann", PASSWORD) == 0


def test_the_oldest_version(site: Site) -> None:
    context = site.context(None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _expect_alert(site.port("modern"), context, "protocol version")


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("localhost", "localhost"),
        ("A.example", "a.example"),
        ("b.wild.example", "a.example"),
        ("exact.wild.example", "exact.wild.example"),
        ("b.c.wild.example", "localhost"),
        ("unknown.example", "localhost"),
        (None, "localhost"),
    ],
)
def test_certificates_by_server_name(site: Site, asked: str | None, got: str) -> None:
    """What else was agreed on stays; a certificate of the client is verified whatever it asked for."""
    context = site.context(site.authority.issue("pump"))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", site.port("mtls")), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=asked) as secure,
    ):
        assert _common_name(secure) == got
        assert secure.selected_alpn_protocol() == "mqtt"
        assert _connect(WireClient(0, carrier=secure), f"sni-{asked}") == 0
    context = site.context(Authority(site.directory, "stranger").issue("x"))
    context.check_hostname = False
    _expect_alert(site.port("mtls"), context, "unknown ca", asked)


def _common_name(secure: ssl.SSLSocket) -> object:
    certificate = secure.getpeercert(True)
    assert certificate is not None
    subject = x509.load_der_x509_certificate(certificate).subject
    return subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


def test_files_change_under_open_connections(site: Site) -> None:
    """New handshakes have the new certificate, and connections stay; mistakes change nothing."""
    name, file = "moorline_certificate_expiry_seconds", str(site.server.file)
    before = site.metric(name, listener="mtls", file=file)
    assert abs(before - time.time() - 86_400) < 600
    assert site.metric("moorline_crl_expiry_seconds", listener="mtls") > time.time()
    own = site.authority.issue("pump")
    with site.wire("mtls", own) as client:
        assert _connect(client, "stays") == 0
        renewed = site.authority.issue(
            "renewed",
            alternatives=[x509.DNSName("localhost")],
            lasts=datetime.timedelta(days=2),
        )
        site.change(lambda: renewed.file.replace(site.server.file), "_refused")
        assert "is not the key of" in site.nodes[0].output()
        with site.wire("mtls", own) as other:
            assert _connect(other, "meanwhile") == 0
        site.change(lambda: renewed.key.replace(site.server.key))
        with site.wire("mtls", own) as other:
            assert _connect(other, "afterwards") == 0
        after = site.metric(
            "moorline_certificate_expiry_seconds", listener="mtls", file=str(site.server.file)
        )
        assert abs(after - before - 86_400) < 600
        with Peer(site.port("web"), site.context(None)) as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert _common_name(peer.socket) == "renewed"
        client.ping()
        assert _may(client, "things/pump/x")


def test_another_authority_is_trusted(site: Site) -> None:
    added = Authority(site.directory, "added")
    own = added.issue("newcomer")
    _expect_alert(site.port("mtls"), site.context(own), "unknown ca")
    both = site.authority.file.read_bytes() + added.file.read_bytes()
    lists = site.crl.read_bytes() + added.crl()

    def add() -> None:
        site.crl.write_bytes(lists)
        site.authority.file.write_bytes(both)

    site.change(add)
    deadline = time.monotonic() + SECONDS
    while True:  # the first of the two files may have been seen before the other
        try:
            with site.wire("mtls", own) as client:
                assert _connect(client, "newcomer") == 0
                break
        except ssl.SSLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_is_revoked_has_to_go(site: Site) -> None:
    """On both nodes, and who is about to connect; others stay."""
    thief, honest = site.authority.issue("thief"), site.authority.issue("honest")
    with ExitStack() as stack:
        thieves = [stack.enter_context(site.wire("mtls", thief, node)) for node in (0, 1)]
        thieves.append(stack.enter_context(site.wire("web", thief, 1)))
        stays = [stack.enter_context(site.wire(listener, honest)) for listener in ("mtls", "web")]
        for number, client in enumerate((*thieves, *stays)):
            assert _connect(client, f"of-somebody-{number}") == 0
        late = stack.enter_context(Peer(site.port("web"), site.context(thief)))
        lists = site.crl.read_bytes()
        site.change(lambda: site.crl.write_bytes(site.authority.crl(thief) + lists))
        for client in thieves:
            assert client.expect(Disconnect).reason_code == DENIED
            client.wait_closed()
        site.nodes[0].wait_for("the certificate was revoked")
        with WireClient(0, carrier=Carrier(late.upgrade())) as client:
            assert _connect(client, "late") == DENIED
        for client in stays:
            client.ping()
    _expect_alert(site.port("mtls"), site.context(thief), "certificate revoked")


def test_nobody_stays_longer_than_the_certificate_is_valid(site: Site) -> None:
    own = site.authority.issue("brief", lasts=datetime.timedelta(seconds=4))
    with site.wire("mtls", own) as client:
        assert _connect(client, "brief") == 0
        assert client.expect(Disconnect).reason_code == ReasonCode.MAXIMUM_CONNECT_TIME


def test_mosquitto(site: Site) -> None:
    good, stranger = site.authority.issue("mosquitto"), Authority(site.directory, "stranger").issue("y")

    def options(node: int, own: Certificate | None) -> list[str]:
        place = ["-h", "localhost", "-p", str(site.port("mtls", node)), "--cafile", str(site.authority.file)]
        return place + (["--cert", str(own.file), "--key", str(own.key)] if own is not None else [])

    topic = ["-t", "things/mosquitto/x", "-q", "1"]
    buffered = [require_tool("stdbuf"), "-oL", require_tool("mosquitto_sub"), "-d"]
    publish = [require_tool("mosquitto_pub"), "-m", "hello", *topic]
    with Program([*buffered, *topic, *options(1, good)]) as subscriber:
        subscriber.wait_for("Subscribed (mid: 1)")
        subprocess.run([*publish, *options(0, good)], check=True, timeout=SECONDS)
        assert subscriber.wait_for("hello") == "hello"
    for bad in (stranger, None):
        refused = subprocess.run(
            [*publish, *options(0, bad)], timeout=SECONDS, capture_output=True, text=True
        )
        assert refused.returncode != 0
        assert "Error" in refused.stderr


def test_paho_by_websocket(site: Site) -> None:
    own = site.authority.issue("paho")
    messages: queue.Queue[bytes] = queue.Queue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, "paho", protocol=MQTTProtocolVersion.MQTTv5, transport="websockets"
    )
    client.tls_set(str(site.authority.file), str(own.file), str(own.key))
    client.ws_set_options("/mqtt")
    client.on_connect = lambda c, _u, _f, _r, _p: c.subscribe("things/paho/#", 1)
    client.on_subscribe = lambda c, *_: c.publish("things/paho/x", b"hello", 1)
    client.on_message = lambda _c, _u, message: messages.put(bytes(message.payload))
    client.connect("localhost", site.port("web"))
    client.loop_start()
    try:
        assert messages.get(timeout=SECONDS) == b"hello"
    finally:
        client.disconnect()
        client.loop_stop()


def test_mqttjs(site: Site) -> None:
    directory = require_node_package("mqtt")
    own = site.authority.issue("mqttjs")
    urls = [f"mqtts://localhost:{site.port('mtls')}", f"wss://localhost:{site.port('web', 1)}/mqtt"]
    plan = {
        "urls": urls, "ca": str(site.authority.file), "cert": str(own.file), "key": str(own.key),
        "topic": "things/mqttjs/x", "sizes": [1],
    }  # fmt: skip
    with Program([require_tool("node"), "mqttjs/listeners.js", json.dumps(plan)], directory) as program:
        for url in urls:
            for version in (4, 5):
                for qos in (0, 1, 2):
                    assert program.line() == f"{url} {version} {qos} 1"
        assert program.wait() == []
