"""Users and rules in Redis on two nodes: real clients, while somebody changes what they are."""

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.mqtt import MQTT_3_1_1, MQTT_5, Connack, Connect, Publish, ReasonCode
from tests.node.harness import running_node
from tests.node.redis_server import RedisServer
from tests.node.stored_site import (
    CHEAP,
    PASSWORD,
    RULES,
    Opened,
    Site,
    cheap_hasher,
    connect,
    data,
    running_site,
    wait,
)
from tests.node.wire import HOUR, WireClient
from tests.scram_peer import ScramPeer
from tests.tools import NO_TLS, require_tool

DENIED = ReasonCode.NOT_AUTHORIZED
_SECOND = 3.0
"""A second, and what a busy machine adds to it."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def opened(site: Site) -> Iterator[Opened]:
    clients = Opened(site)
    yield clients
    clients.close()


def _assert_gone(*clients: WireClient, since: float) -> None:
    for client in clients:
        assert client.wait_refused() == DENIED
    assert time.monotonic() - since < _SECOND


# Passwords


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("user", "password", "code", "old_code"),
    [
        ("ann", PASSWORD, 0, 0),
        ("ann", "wrong", 0x86, 4),
        ("ann", None, 0x86, 4),
        ("filed", PASSWORD, 0, 0),
        ("filed", "wrong", 0x86, 4),
        ("nobody", PASSWORD, 0x86, 4),
        ("no:body", PASSWORD, 0x86, 4),
        (None, None, 0x87, 5),
    ],
)
def test_who_comes_in(
    opened: Opened, node: int, user: str | None, password: str | None, code: int, old_code: int
) -> None:
    assert opened.code(user, password, node=node) == code
    assert opened.code(user, password, MQTT_3_1_1, node) == old_code


def test_mosquitto_and_paho(site: Site) -> None:
    publish = [
        require_tool("mosquitto_pub"),
        "-V",
        "mqttv311",
        "-q",
        "1",
        "-r",
        "-t",
        "home/bob/m",
        "-m",
        "hi",
    ]
    publish += ["-p", str(site.nodes[0].port), "-u", "bob", "-P"]
    assert subprocess.run([*publish, "wrong"], capture_output=True, check=False).returncode != 0
    assert subprocess.run([*publish, PASSWORD], capture_output=True, check=False).returncode == 0
    codes: list[int] = []
    got: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=paho.MQTTv5)
    client.username_pw_set("bob", PASSWORD)
    client.on_connect = lambda *arguments: codes.append(arguments[3].value)
    client.on_message = lambda *arguments: got.append(arguments[2].payload)
    client.connect("127.0.0.1", site.nodes[1].port)
    wait(lambda: client.loop(0.05) == 0 and bool(codes))
    client.subscribe("home/bob/m", 1)
    wait(lambda: client.loop(0.05) == 0 and bool(got))
    client.disconnect()
    assert (codes, got) == ([0], [b"hi"])


def test_who_is_deleted_disabled_or_has_another_password_is_sent_away(site: Site, opened: Opened) -> None:
    for name in ("gone", "off"):
        site.put(name, hash=CHEAP)
    site.put("new", password=PASSWORD)
    gone, off, new = ([opened(name, node=node) for node in (0, 1)] for name in ("gone", "off", "new"))
    new += [opened.scram("new", node=node)[0] for node in (0, 1)]
    bystander = opened("ann", node=1)
    since = time.monotonic()
    site.delete("gone")
    _assert_gone(*gone, since=since)
    since = time.monotonic()
    site.put("off", node=1, enabled=False)
    _assert_gone(*off, since=since)
    site.put("new", password="another")
    _assert_gone(*new, since=time.monotonic())
    assert [opened.code(name, PASSWORD, node=1) for name in ("gone", "off", "new")] == [0x86] * 3
    assert opened.code("new", "another") == 0
    site.put("off", enabled=True)
    wait(lambda: opened.code("off", PASSWORD) == 0)
    assert bystander.ping() == []


def test_groups_and_own_rules_change_under_a_client(site: Site, opened: Opened) -> None:
    site.put("carl", hash=CHEAP, groups=["operators"])
    client = opened("carl", node=1)
    assert client.subscribe("a", "shared/x").reason_codes == [0, 0]
    site.put("carl", groups=[], rules={"publish": ["b/%u"], "subscribe": []})
    wait(lambda: client.publish("c", b"", 1) == DENIED)
    assert client.publish("b/carl", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
    operator = opened("olga")
    operator.publish("a", b"not this", 1)
    operator.publish("shared/x", b"this", 1)
    assert client.payloads(1) == [b"this"]
    assert site.ask("GET", "/users/carl").json()["rules"] == {"publish": ["b/%u"], "subscribe": []}
    site.put("carl", rules=None)
    wait(lambda: client.publish("b/carl", b"", 1) == DENIED)


def test_a_storm_asks_redis_seldom(site: Site, opened: Opened) -> None:
    site.put("stormy", hash=CHEAP)
    with site.server.client() as client, client.monitor() as monitor:
        for _ in range(50):
            assert opened.code("stormy", PASSWORD) == 0
            assert opened.code("no-storm", PASSWORD) == 0x86
        client.set("end", "")
        asked = []
        for command in monitor.listen():
            if command["command"] == "SET end ":
                break
            if command["command"].startswith("HMGET mq:{m}:users "):
                asked.append(command["command"].rpartition(" ")[2])
    assert set(asked) == {"no-storm", "stormy"}
    assert len(asked) <= 6  # each once, and again after the change


def test_a_client_that_comes_at_the_moment_of_a_change_does_not_stay(site: Site, opened: Opened) -> None:
    """Whatever the order of the two on the node."""
    hashes = [cheap_hasher.hash(str(number)) for number in range(6)]
    site.put("race", hash=hashes[0])
    let_in = 0

    def come(number: int, node: int) -> WireClient | None:
        """With the password before."""
        client = opened.raw(node=node % 2)
        client.send(connect(f"race-{number}-{node}", "race", str(number - 1)))
        return client if client.expect(Connack).reason_code == 0 else None

    for number in range(1, 6):
        wait(lambda number=number: opened.code("race", str(number - 1)) == 0)  # type: ignore[misc]  # bound
        with ThreadPoolExecutor(6) as pool:
            coming = [pool.submit(come, number, node) for node in range(6)]
            site.put("race", hash=hashes[number])
        for client in (each.result() for each in coming):
            if client is not None:
                assert client.wait_refused() == DENIED
                let_in += 1
    assert let_in > 0
    site.delete("race")


# Names and sizes


def test_names_of_any_kind(site: Site, opened: Opened) -> None:
    site.put("Ⅸ", password=PASSWORD)  # SCRAM takes it for IX
    site.put("soft", password="\u0007")
    for name, password in (("Ⅸ", PASSWORD), ("soft", "\u0007")):
        assert site.ask("GET", f"/users/{name}").json()["scram"] is False
        assert opened.code(name, password) == 0
        site.delete(name)
    for name in ("a/b", "é{}%41", "x" * 255, "name with space"):
        site.put(name, hash=CHEAP)
        assert opened.code(name, PASSWORD) == 0
        assert site.ask("GET", f"/users/{quote(name, safe='')}").json()["name"] == name
        site.delete(quote(name, safe=""))


def test_what_is_refused(site: Site) -> None:
    def refused(name: str, **body: object) -> tuple[int, str]:
        answer = site.ask("PUT", f"/users/{quote(name, safe='')}", body)
        return answer.status_code, answer.json()["error"]

    assert refused("a:b", password="x")[0] == 422
    assert refused("x" * 256, password="x")[0] == 422
    assert refused("ann", hash=CHEAP, expect="new") == (409, "there is a user ann already")
    assert refused("anyone", hash=CHEAP, expect="existing") == (404, "there is no user anyone")
    assert refused("anyone", groups=["x"]) == (422, "a new user needs a password or a hash")
    assert refused("anyone", hash="x") == (422, "hash: no argon2id hash")
    assert refused("anyone", hash="x", password="x") == (422, "either a password or a hash")
    assert refused("anyone", password="x" * 1025)[0] == 422
    assert refused("anyone", password="x", groups=["g"] * 101)[0] == 422
    assert refused("anyone", hash=CHEAP, rules={"publish": ["a#"]})[0] == 422
    assert refused("anyone", password="x", rules={"publish": ["a"] * 101})[0] == 422
    assert refused("anyone", password="x", nonsense=1)[0] == 422
    assert refused("anyone", hash=CHEAP, groups=[f"{n}".rjust(250) for n in range(90)])[0] == 422
    assert site.ask("GET", "/users/anyone").status_code == 404
    assert site.ask("DELETE", "/users/anyone", {}).status_code == 404
    assert site.ask("DELETE", "/users/ann").status_code == 415  # no JSON: from some page in a browser
    assert site.ask("GET", "/users?limit=501").status_code == 422


def test_pages_in_order(site: Site) -> None:
    names = [f"page-{number}" for number in range(7)]
    for name in reversed(names):
        site.put(name, hash=CHEAP)
    seen: list[str] = []
    after = "page"
    while len(seen) < len(names):
        page = site.ask("GET", f"/users?limit=3&after={after}", node=1).json()
        seen += [user["name"] for user in page["users"]]
        after = page["next"]
        assert 1 <= len(page["users"]) <= 3
        assert "argon2" not in str(page)
    assert seen[: len(names)] == names
    for name in names:
        site.delete(name)


# Rules


def test_rules_count_within_a_second(site: Site, opened: Opened) -> None:
    watchers = [opened("bob", node=node) for node in (0, 1)]
    for watcher in watchers:
        assert watcher.subscribe("shared/a", "home/bob/a", qos=1).reason_codes == [1, 1]
    publisher = opened("olga")
    try:
        assert site.ask("PUT", "/rules", {"text": RULES.replace('"shared/#"', '"shared/b"')}).is_success
        since = time.monotonic()
        for watcher in watchers:
            wait(lambda watcher=watcher: watcher.publish("shared/c", b"", 1) == DENIED)  # type: ignore[misc]  # bound
        assert time.monotonic() - since < _SECOND
        publisher.publish("shared/a", b"not this", 1)
        publisher.publish("home/bob/a", b"this", 1)
        for watcher in watchers:
            assert watcher.payloads(1) == [b"this"]
    finally:
        site.set_rules(RULES)


def test_rules_with_mistakes_change_nothing(site: Site, opened: Opened) -> None:
    wrong = RULES + "\n[[rules]]\neffect = 'perhaps'\nfilters = ['a#']\n"
    line = wrong.splitlines().index("effect = 'perhaps'") + 1
    before = site.ask("GET", "/rules").json()
    assert before["text"] == RULES
    answer = site.ask("PUT", "/rules", {"text": wrong})
    assert answer.status_code == 422
    assert f"line {line}: rules.2.effect" in answer.json()["error"]
    assert f"line {line + 1}: rules.2.filters.0: 'a#' is not a Topic Filter" in answer.json()["error"]
    assert site.ask("POST", "/rules/check", {"text": wrong}).json()["mistakes"]
    assert site.ask("POST", "/rules/check", {"text": RULES}).json() == {"mistakes": []}
    assert site.ask("PUT", "/rules", {"text": "#" * (256 << 10) + "\n"}).status_code == 422
    assert site.ask("GET", "/rules").json() == before


def test_what_somebody_else_has_written_to_redis(site: Site, opened: Opened) -> None:
    """Rules and users that can't be read: those before hold; the user can't come in."""
    client = opened("ann")
    with site.server.client() as redis:
        redis.hset("mq:{m}:rules", mapping={"version": 1000, "text": "nonsense"})
        site.nodes[0].wait_for("rules in Redis not taken")
        redis.hset("mq:{m}:users", "broken", b"1:1:0:0:\xc1")
    assert client.publish("shared/x", b"", 1) != DENIED
    assert client.publish("x", b"", 1) == DENIED
    assert opened.code("broken", PASSWORD) == 0x86
    assert site.ask("DELETE", "/users/broken", {}).is_success
    site.set_rules(RULES)


def test_without_rules_nobody_may_do_anything(site: Site, opened: Opened) -> None:
    client = opened("olga")
    try:
        assert site.ask("DELETE", "/rules", {}).is_success
        wait(lambda: client.publish("x", b"", 1) == DENIED)
        assert site.ask("GET", "/rules").json()["text"] is None
    finally:
        site.set_rules(RULES)


# Around


def test_changes_are_recorded_without_secrets(site: Site, opened: Opened) -> None:
    secret = "s3cr3t-passw0rd"
    site.put("recorded", password=secret, groups=["g"])
    site.put("recorded", enabled=False)
    site.delete("recorded")
    site.set_rules(RULES)
    events = [event for event in site.nodes[0].events("audit") if event.get("username") == "recorded"]
    assert [event["event"] for event in events] == ["user_created", "user_changed", "user_deleted"]
    assert events[0]["fields"] == ["groups", "password"]
    assert {event["address"] for event in events} == {"127.0.0.1"}
    assert site.nodes[0].events("audit")[-1]["event"] == "rules_replaced"
    output = site.nodes[0].log.read_text()
    for hidden in (secret, PASSWORD, "argon2id"):
        assert hidden not in output


@contextmanager
def _away(server: RedisServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def test_nobody_comes_in_while_redis_is_away(site: Site, opened: Opened) -> None:
    """Though the user is known: whether it still counts is not."""
    stays = opened("ann")
    with _away(site.server):
        time.sleep(2.0)  # longer than what is remembered counts
        client, peer = opened.raw(), ScramPeer("bob", PASSWORD)
        client.timeout_seconds = 10
        client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(peer.first())))
        assert opened.code("ann", PASSWORD) == ReasonCode.SERVER_UNAVAILABLE
        assert client.expect(Connack).reason_code == ReasonCode.SERVER_UNAVAILABLE
    assert stays.ping() == []
    wait(lambda: opened.code("ann", PASSWORD) == 0)
    assert "Traceback" not in site.nodes[0].log.read_text()


def test_a_change_while_a_node_could_not_know_of_it(site: Site, opened: Opened) -> None:
    """Also if Redis has forgotten who was changed."""
    site.put("missed", hash=CHEAP)
    clients = [opened("missed", node=node) for node in (0, 1)]
    site.nodes[1].freeze()
    try:
        site.delete("missed")
        with site.server.client() as redis:
            redis.xtrim("mq:{m}:users:log", maxlen=0, approximate=False)
    finally:
        site.nodes[1].send_signal(signal.SIGCONT)
    _assert_gone(*clients, since=time.monotonic())


def test_a_node_lets_nobody_in_before_it_has_read_the_rules(site: Site, tmp_path: Path) -> None:
    """One that starts: what it can't read denies everything."""
    with site.server.client() as redis:
        redis.hset("other:{m}:rules", mapping={"version": 3, "text": "nonsense"})
    environment = {"MOORLINE_AUTH__REDIS_RULES": "true", "MOORLINE_NODE__ALLOW_ANONYMOUS": "true"}
    environment |= {"MOORLINE_REDIS__PREFIX": "other:", "MOORLINE_AUTH__UNMATCHED": "allow"}
    with (
        running_node(tmp_path, "--redis", site.server.url, environment=environment) as node,
        WireClient(node.port) as client,
    ):
        assert client.connect("c", properties=HOUR).reason_code == 0
        assert client.publish("x", b"", 1) == DENIED
        url = f"http://127.0.0.1:{node.admin_port}/api/v1/rules"
        assert httpx.request("DELETE", url, json={}, trust_env=False, verify=NO_TLS).is_success
        wait(lambda: client.publish("x", b"", 1) != DENIED)
        client.send(Publish("y", b"", 0, False, False, 0))
        assert client.ping() == []
