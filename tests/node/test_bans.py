"""Who is kept out: two nodes of one broker, real clients, the command line."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from typer.testing import Result

from broker.auth.password_file import hash_password
from broker.mqtt import MQTT_3_1_1, MQTT_5, Connack, Connect, Disconnect, ReasonCode, Will
from tests.cli import program
from tests.node.harness import NodeProcess, Probe, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import WireClient, connected
from tests.ports import free_port
from tests.tools import make_certificate, missing, require_tool

BANNED = ReasonCode.BANNED
WITHIN_SECONDS = 5.0
"""It is a second; machines of tests are busy."""


@dataclass(frozen=True)
class Site:
    """`audit` is the file of the first node."""

    redis: RedisServer
    nodes: tuple[NodeProcess, NodeProcess]
    audit: Path
    tls_port: int
    ws_port: int
    open_port: int
    """Of the first node, at all addresses of this machine."""

    def ban(self, kind: str, value: str, seconds: float | None = None, node: int = 0) -> None:
        """By the API of one node; returns when it is there in the list of both."""
        body = {"kind": kind, "value": value, "reason": "a test", "seconds": seconds, "by": "pytest"}
        answer = self.nodes[node].post("/api/v1/bans", body)
        assert answer.status == 201, answer

    def unban(self, kind: str, value: str) -> Probe:
        return self.nodes[0].post("/api/v1/bans/remove", {"kind": kind, "value": value})

    def bans(self, node: int = 1) -> dict[str, dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.nodes[node].get("/api/v1/bans").text)["bans"]
        return {f"{ban['kind']}:{ban['value']}": ban for ban in found}

    def audited(self, event: str) -> list[dict[str, object]]:
        records: list[dict[str, object]] = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [record for record in records if record["event"] == event]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answer_to(
    port: int, client_id: str, version: int = MQTT_5, username: str | None = None, password: bytes = b""
) -> int:
    """The Reason Code of CONNACK."""
    with WireClient(port, version) as client:
        client.send(
            Connect(client_id, version, True, 0, username, password if username else None, None, None)
        )
        return client.expect(Connack).reason_code


def is_closed_at_once(port: int, host: str = "127.0.0.1") -> bool:
    """Without a word, and before anything was sent."""
    try:
        with socket.create_connection((host, port), 5) as opened:
            opened.settimeout(0.1)
            return opened.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("bans")
    certificate = make_certificate(directory)
    passwords = directory / "passwords"
    passwords.write_text(f"olga:{hash_password('right')}\nmallory:{hash_password('right')}\n")
    tls_port, ws_port, open_port = free_port(), free_port(), free_port()
    common = {
        "MOORLINE_AUTH__PASSWORD_FILE": str(passwords),
        "MOORLINE_NODE__ALLOW_ANONYMOUS": "true",
        "MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0",
        "MOORLINE_BANS__GUESS_LIMIT": "4",
        "MOORLINE_BANS__FLAP_LIMIT": "5",
    }
    first = {
        "MOORLINE_LISTENERS__OPEN__ADDRESS": f"mqtt://0.0.0.0:{open_port}",
        "MOORLINE_AUTH__AUDIT_FILE": str(directory / "audit.log"),
        "MOORLINE_LISTENERS__TLS__ADDRESS": f"mqtts://127.0.0.1:{tls_port}",
        "MOORLINE_LISTENERS__TLS__CERTIFICATE": str(certificate.file),
        "MOORLINE_LISTENERS__TLS__KEY": str(certificate.key),
        "MOORLINE_LISTENERS__WS__ADDRESS": f"ws://127.0.0.1:{ws_port}/mqtt",
    }
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(directory / "redis"))
        nodes = [
            stack.enter_context(
                running_node(
                    _made(directory / name),
                    *("--redis", redis.url, "--node-name", name),
                    environment=common | environment,
                )
            )
            for name, environment in (("a", first), ("b", {}))
        ]
        yield Site(redis, (nodes[0], nodes[1]), directory / "audit.log", tls_port, ws_port, open_port)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def clean(site: Site) -> Iterator[None]:
    yield
    for name in site.bans():
        kind, _, value = name.partition(":")
        site.unban(kind, value)
    until(lambda: not site.bans())


@pytest.mark.parametrize(("version", "code"), [(MQTT_5, BANNED), (MQTT_3_1_1, 5)])
@pytest.mark.parametrize("kind", ["client", "pattern", "user", "pair"])
def test_a_connect_is_refused_on_every_node(site: Site, kind: str, version: int, code: int) -> None:
    client_id = f"out-{kind}-{version}"
    kinds = {
        "client": ("client", client_id),
        "pattern": ("client", f"*-{kind}-{version}"),
        "user": ("user", "mallory"),
        "pair": ("pair", f"127.0.0.1 {client_id}"),
    }
    site.ban(*kinds[kind])

    def answers() -> list[int]:
        return [answer_to(node.port, client_id, version, "mallory", b"wrong") for node in site.nodes]

    until(lambda: answers() == [code, code])
    assert [answer_to(node.port, "other", version, "olga", b"right") for node in site.nodes] == [0, 0]
    (ban,) = site.bans().values()
    assert (ban["reason"], ban["by"], ban["until"], ban["automatic"]) == ("a test", "pytest", None, False)
    site.unban(*kinds[kind])
    until(lambda: all(answer_to(each.port, client_id, version, "olga", b"right") == 0 for each in site.nodes))


@pytest.mark.parametrize(("version", "said"), [("mqttv5", "Banned"), ("mqttv311", "not authorised")])
def test_mosquitto_clients_are_told(site: Site, version: str, said: str) -> None:
    site.ban("client", "mosquitto-*")
    until(lambda: answer_to(site.nodes[1].port, "mosquitto-1") == BANNED)
    command = [
        require_tool("mosquitto_pub"), "-V", version, "-p", str(site.nodes[1].port), "-i", "mosquitto-1",
        "-t", "t", "-m", "m",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert ended.returncode != 0
    assert said.lower() in ended.stderr.lower()


def test_no_password_is_hashed_for_who_is_banned(site: Site) -> None:
    site.ban("user", "mallory")
    until(lambda: answer_to(site.nodes[0].port, "x", MQTT_5, "mallory", b"right") == BANNED)

    def asked() -> int:
        text = site.nodes[0].get("/metrics").text
        lines = (line for line in text.splitlines() if line.startswith("moorline_authentications_total"))
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)

    before = asked()
    for _ in range(20):
        assert answer_to(site.nodes[0].port, "x", MQTT_5, "mallory", b"right") == BANNED
    assert asked() == before


@pytest.mark.parametrize("kind", ["client", "user", "address"])
def test_who_is_connected_anywhere_is_disconnected(site: Site, kind: str) -> None:
    name = f"there-{kind}"
    value = {"client": name, "user": "mallory", "address": "127.0.0.0/8"}[kind]
    here = connected(site.nodes[0].port, "witness") if kind != "address" else None
    clients = []
    for node, version in ((site.nodes[0], MQTT_5), (site.nodes[1], MQTT_3_1_1)):
        client = WireClient(node.port, version)
        client_id = name if kind == "client" and version == MQTT_5 else f"{name}-{version}"
        client.send(Connect(client_id, version, True, 0, "mallory", b"right", None, None))
        assert client.expect(Connack).reason_code == 0
        clients.append(client)
    if kind == "client":
        site.ban(kind, f"{name}-{MQTT_3_1_1}", node=1)
    site.ban(kind, value, seconds=3600)
    (last,) = clients[0].wait_closed()
    assert isinstance(last, Disconnect)
    assert last.reason_code == ReasonCode.ADMINISTRATIVE_ACTION
    assert clients[1].wait_closed() == []
    for client in clients:
        client.close()
    if here is not None:
        here.assert_silence()
        here.close()


def test_the_will_of_who_is_disconnected_is_sent(site: Site) -> None:
    with connected(site.nodes[1].port, "mourner") as mourner:
        mourner.subscribe("wills/banned", qos=1)
        with connected(site.nodes[0].port, "mourned", will=Will("wills/banned", b"gone", 1, False, None)):
            site.ban("client", "mourned")
            assert mourner.message().payload == b"gone"


def test_addresses_are_closed_before_a_byte_is_read(site: Site) -> None:
    ports = (site.nodes[0].port, site.nodes[1].port, site.tls_port, site.ws_port)
    assert not any(map(is_closed_at_once, ports))
    site.ban("address", "127.0.0.1", seconds=3600)
    until(lambda: is_closed_at_once(site.nodes[1].port))
    assert all(map(is_closed_at_once, ports))
    site.unban("address", "127.0.0.1")
    until(lambda: not any(map(is_closed_at_once, ports)))


def test_a_ban_ends_by_itself(site: Site) -> None:
    site.ban("client", "short", seconds=1)
    until(lambda: answer_to(site.nodes[1].port, "short") == BANNED)
    until(lambda: answer_to(site.nodes[1].port, "short") == 0)
    until(lambda: not site.bans())
    with site.redis.client() as client:
        assert client.hlen("mq:{m}:bans") == client.zcard("mq:{m}:bans:until") == 0


def test_what_was_missed_is_read_again(site: Site) -> None:
    """Connections to Redis are cut, again and again, while bans come."""
    with site.redis.client() as client:
        for number in range(10):
            client.client_kill_filter(_type="pubsub")
            site.ban("client", f"missed-{number}")
    for number in range(10):
        until(
            lambda number=number: all(  # type: ignore[misc]  # mypy does not know the type of a default
                answer_to(node.port, f"missed-{number}") == BANNED for node in site.nodes
            )
        )


def test_a_change_that_was_never_told_is_noticed(site: Site) -> None:
    """Redis drops what a connection does not read in time; the number of the last change tells."""
    with site.redis.client() as client:
        client.hset("mq:{m}:bans", "client:untold", b"\x96\x01\x00\x01\x00\xa0\xa0")
        client.incr("mq:{m}:bans:ver")
    until(lambda: all(answer_to(node.port, "untold") == BANNED for node in site.nodes))


def test_what_cannot_be_read_harms_no_other(site: Site) -> None:
    with site.redis.client() as client:
        client.hset("mq:{m}:bans", "planet:earth", b"\x96\x01\x00\x01\x00\xa0\xa0")
        client.hset("mq:{m}:bans", "client:damaged", b"\xff")
        client.publish("mq:{m}:bans:changes", b"\xc1")
    site.ban("client", "readable")
    until(lambda: all(answer_to(node.port, "readable") == BANNED for node in site.nodes))
    assert answer_to(site.nodes[0].port, "damaged") == 0
    assert set(site.bans()) == {"client:readable"}
    with site.redis.client() as client:
        client.hdel("mq:{m}:bans", "planet:earth", "client:damaged")


def test_a_node_that_starts_while_redis_is_away_knows_all_before_it_listens(
    site: Site, tmp_path: Path
) -> None:
    site.ban("client", "known")
    with RedisAway(site.redis):
        node = NodeProcess(tmp_path, "--redis", site.redis.url, "--node-name", "late")
        node.launch()
        node.wait_for("waiting for Redis")
    try:
        node.wait_until_up()
        assert answer_to(node.port, "known") == BANNED
        assert answer_to(node.port, "unknown") == 0
    finally:
        node.close()


class RedisAway:
    """For as long as the block lasts."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    def __enter__(self) -> None:
        self._redis.kill()

    def __exit__(self, *_: object) -> None:
        self._redis.start()


def own_address() -> str:
    """Another address of this machine than 127.0.0.1; what is sent there stays in the machine."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not ip_address(each.address).is_loopback:
                return each.address
    return missing("this machine has no address but 127.0.0.1")


def test_who_guesses_and_who_flaps_is_banned_by_itself_on_every_node(site: Site) -> None:
    address, port = own_address(), site.open_port

    def attempt(client_id: str, password: bytes) -> int | None:
        """None: closed without a word."""
        try:
            carrier = socket.create_connection((address, port), 5, (address, 0))
            with WireClient(port, carrier=carrier) as client:
                client.send(Connect(client_id, MQTT_5, True, 0, "olga", password, None, None))
                code = client.expect(Connack).reason_code
                if code == 0:
                    client.disconnect()
                return code
        except ConnectionError:
            return None

    flaps = [attempt("flapper", b"right") for _ in range(6)]
    assert flaps == [0] * 6
    until(lambda: attempt("flapper", b"right") == BANNED)
    assert attempt("other", b"right") == 0
    assert answer_to(site.nodes[1].port, "flapper") == 0, "somebody else may have that name elsewhere"
    carrier = socket.create_connection((address, port), 5, (address, 0))
    with WireClient(port, carrier=carrier) as bystander:
        bystander.send(Connect("bystander", MQTT_5, True, 0, "olga", b"right", None, None))
        assert bystander.expect(Connack).reason_code == 0
        for _ in range(5):
            assert attempt("guesser", b"wrong") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
        until(lambda: attempt("guesser", b"right") is None)
        bystander.assert_silence()
    found = site.bans()
    assert set(found) == {f"pair:{address} flapper", f"address:{address}"}
    assert all(ban["automatic"] and ban["by"] == "moorline" and ban["until"] for ban in found.values())
    metrics = site.nodes[0].get("/metrics").text
    assert 'moorline_automatic_bans_total{reason="guessing"} 1.0' in metrics
    assert 'moorline_automatic_bans_total{reason="flapping"} 1.0' in metrics
    until(lambda: [each["by"] for each in site.audited("ban_added")][-2:] == ["moorline"] * 2)


def ctl(site: Site, *arguments: str) -> Result:
    """`moorline ctl bans`, in this process."""
    url = f"http://127.0.0.1:{site.nodes[0].admin_port}"
    return program.run("ctl", "bans", *arguments, "--admin", url)


def test_the_command_line(site: Site) -> None:
    added = ctl(site, "add", "address", "198.51.100.0/24", "--for", "12h", "--reason", "a flood")
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith("address 198.51.100.0/24 is banned until 20")
    listed = ctl(site, "list").stdout.splitlines()
    assert listed[0].split() == ["KIND", "VALUE", "UNTIL", "SINCE", "BY", "REASON"]
    assert listed[1].split()[:2] == ["address", "198.51.100.0/24"]
    assert listed[1].endswith("a flood")
    (ban,) = json.loads(ctl(site, "list", "--json").stdout)["bans"]
    assert ban["reason"] == "a flood"
    assert "not banned any more" in ctl(site, "remove", "address", "198.51.100.0/24").stdout
    missing_one = ctl(site, "remove", "address", "198.51.100.0/24")
    assert missing_one.exit_code == 1
    assert "there is no ban of address 198.51.100.0/24" in missing_one.stderr
    assert ctl(site, "add", "client", "x", "--for", "soon").exit_code == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "planet", "value": "earth"}, 422),
        ({"kind": "client", "value": "*"}, 422),
        ({"kind": "address", "value": "192.0.2.1/24"}, 422),
        ({"kind": "client", "value": "c", "seconds": 0}, 422),
        ({"kind": "client", "value": "c", "reason": "two\nlines"}, 422),
        ({"kind": "client", "value": "c", "by": "x" * 101}, 422),
        ({"kind": "client", "value": "c", "colour": "red"}, 422),
        ({"value": "c"}, 422),
    ],
)
def test_mistakes_are_refused(site: Site, body: dict[str, object], status: int) -> None:
    assert site.nodes[0].post("/api/v1/bans", body).status == status
    assert not site.bans()


def test_a_long_list_comes_in_pages(site: Site) -> None:
    with site.redis.client() as client:
        for number in range(700):
            client.hset("mq:{m}:bans", f"client:many-{number}", b"\x96\x01\x00\x01\x00\xa0\xa0")
    seen: set[str] = set()
    cursor: str | None = "0"
    pages = 0
    while cursor is not None:
        page = json.loads(site.nodes[0].get(f"/api/v1/bans?cursor={cursor}").text)
        seen |= {ban["value"] for ban in page["bans"]}
        cursor = page["next"]
        pages += 1
    assert len(seen) == 700
    assert pages > 1
    assert site.nodes[0].get("/api/v1/bans?cursor=x").status == 422
    with site.redis.client() as client:
        client.delete("mq:{m}:bans")


def test_each_event_is_in_the_audit_log(site: Site) -> None:
    port = site.nodes[0].port
    assert answer_to(port, "audited", MQTT_5, "olga", b"right") == 0
    assert answer_to(port, "audited", MQTT_5, "olga", b"wrong") == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    site.ban("client", "audited", seconds=3600)
    until(lambda: answer_to(port, "audited", MQTT_5, "olga", b"right") == BANNED)
    site.unban("client", "audited")
    assert site.nodes[0].post("/api/v1/rebalance", {"tolerance": 5.0}).status == 202
    until(lambda: any(each["action"] == "POST /api/v1/rebalance" for each in site.audited("admin")))

    def last(event: str) -> dict[str, object]:
        return site.audited(event)[-1]

    logins = [each for each in site.audited("login") if each["client_id"] == "audited"]
    assert {(each["username"], each["address"], each["listener"]) for each in logins} == {
        ("olga", "127.0.0.1", "tcp")
    }
    denied = last("connect")
    assert (denied["client_id"], denied["username"], denied["node_id"]) == ("audited", "olga", "a")
    assert last("banned")["ban"] == "client:audited"
    assert last("ban_added") | {"seconds": 3600.0, "by": "pytest"} == last("ban_added")
    assert last("ban_removed")["ban"] == "client:audited"
    assert last("admin")["action"] == "POST /api/v1/rebalance"
    assert "time" in last("admin")
