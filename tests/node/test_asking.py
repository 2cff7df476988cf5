"""An HTTP server and a database say who comes in and what may be done: two nodes, real clients, and the
examples of docs/security.md as they stand there.
"""

import contextlib
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import paho.mqtt.client as paho
import pytest
import uvicorn
from paho.mqtt.enums import CallbackAPIVersion
from starlette.applications import Starlette

from broker.auth.hashing import hash_password
from broker.mqtt import MQTT_5, Connack, Connect, Disconnect, Publish
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import WireClient
from tests.ports import free_port
from tests.tools import require_tool

DENIED = 0x87
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
KEYS = "[[keys]]\nkid = '{0}'\nalgorithm = 'HS256'\nsecret_file = '{0}'\n"


def _example(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


class Serving:
    """The server of the example, in a thread; it may be stopped and started again."""

    def __init__(self) -> None:
        names: dict[str, Any] = {}
        exec(compile(_example("python"), str(PAGE), "exec"), names)
        app = names["app"]
        assert isinstance(app, Starlette)
        self.port = free_port()
        self._app = app

    def start(self) -> None:
        config = uvicorn.Config(self._app, port=self.port, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()


@dataclass(frozen=True)
class Site:
    """Two nodes of one broker, and whom they ask."""

    nodes: tuple[NodeProcess, NodeProcess]
    server: Serving
    database: Path
    keys: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("asking")
    database, keys = directory / "users.db", directory / "keys.toml"
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        opened.executescript(_example("sql"))
        opened.execute("INSERT INTO mqtt_user VALUES ('dora', ?, 0, NULL)", (hash_password("right"),))
        opened.execute("INSERT INTO mqtt_user VALUES ('root', ?, 1, NULL)", (hash_password("right"),))
    (directory / "url").write_text(f"sqlite+aiosqlite:///{database}\n")
    for name in ("old", "new"):
        (directory / name).write_text(name * 20)
    keys.write_text(KEYS.format("old") + KEYS.format("new"))
    config = directory / "moorline.toml"
    config.write_text(_example("toml").replace("/etc/moorline/database", str(directory / "url")))
    with ExitStack() as stack:
        server = Serving()
        server.start()
        stack.callback(server.stop)
        redis = stack.enter_context(running_redis(directory / "redis"))
        environment = {
            "MOORLINE_CONFIG": str(config),
            "MOORLINE_AUTH__JWT_KEYS": str(keys),
            "MOORLINE_AUTH__HTTP_AUTHENTICATE_URL": f"http://127.0.0.1:{server.port}/authenticate",
            "MOORLINE_AUTH__HTTP_AUTHORIZE_URL": f"http://127.0.0.1:{server.port}/authorize",
            "MOORLINE_AUTH__CACHE_SECONDS": "0.5",
        }
        nodes = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            node = running_node(directory / name, "--redis", redis.url, environment=environment)
            nodes.append(stack.enter_context(node))
        yield Site((nodes[0], nodes[1]), server, database, keys)


@pytest.fixture
def opened(site: Site) -> Iterator["Opened"]:
    clients = Opened(site)
    yield clients
    clients.close()


class Opened:
    """Clients of one test; closed at its end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._clients: list[WireClient] = []

    def ask(self, user: str | None, password: str, client_id: str, node: int = 0) -> tuple[WireClient, int]:
        client = WireClient(self._site.nodes[node].port)
        self._clients.append(client)
        client.send(Connect(client_id, MQTT_5, True, 0, user, password.encode()))
        return client, client.expect(Connack).reason_code

    def __call__(self, user: str | None, password: str, client_id: str, node: int = 0) -> WireClient:
        client, code = self.ask(user, password, client_id, node)
        assert code == 0
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("ann", "secret", 0),
        ("ann", "wrong", 0x86),
        ("dora", "right", 0),
        ("dora", "wrong", 0x86),
        ("nobody", "right", 0x86),
        ("x' OR '1'='1' --", "right", 0x86),
        ("ann\nX: y", "secret", 0x86),
    ],
)
def test_who_comes_in(opened: Opened, node: int, user: str, password: str, code: int) -> None:
    assert opened.ask(user, password, f"who-{node}", node)[1] == code


def test_what_a_client_of_the_server_may_do(opened: Opened) -> None:
    """By the acl that came with its answer, and by asking it."""
    client, other = opened("ann", "secret", "c1"), opened("ann", "secret", "c2", 1)
    allowed = ["devices/c1/#", "devices/c1/x", "news/#"]
    denied = ["devices/c2/#", "devices/#", "#", "news/x", "$SYS/#", "devices/ann/secret"]
    assert client.subscribe(*allowed, *denied).reason_codes == [0] * 3 + [DENIED] * 6
    assert client.publish("devices/c2/x", b"1", 1) == DENIED
    assert other.publish("devices/c1/x", b"2", 1) == DENIED
    client.send(Publish("devices/c1/x", b"3", 0, False, False, 0))
    assert client.payloads(1) == [b"3"]


def test_what_a_client_of_the_database_may_do(opened: Opened) -> None:
    """The rows count in order."""
    client = opened("dora", "right", "d1")
    assert client.subscribe("devices/dora/x", "devices/dora/#", "devices/ann/x").reason_codes == [
        0,
        DENIED,
        DENIED,
    ]
    assert client.publish("devices/dora/secret", b"1", 1) == DENIED
    client.send(Publish("devices/dora/x", b"2", 0, False, False, 0))
    assert client.payloads(1) == [b"2"]
    assert opened("root", "right", "r1", 1).subscribe("#", "$SYS/#").reason_codes == [0, 0]


def test_a_client_identifier_can_not_widen_rights(opened: Opened) -> None:
    client = opened("ann", "secret", "+")
    assert client.subscribe("devices/+/#").reason_codes == [DENIED]


def test_mosquitto(site: Site) -> None:
    for node in site.nodes:
        for user, password, code in (
            ("ann", "secret", 0),
            ("ann", "no", 4),
            ("dora", "right", 0),
            ("dora", "no", 4),
        ):
            command = [
                require_tool("mosquitto_pub"), "-p", str(node.port), "-i", "mosquitto", "-V", "mqttv311",
                "-u", user, "-P", password, "-t", "devices/mosquitto/x", "-m", "x", "-q", "1",
            ]  # fmt: skip
            assert subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == code


@pytest.mark.parametrize(("user", "password", "code"), [("ann", "secret", 0), ("dora", "no", 0x86)])
def test_paho(site: Site, user: str, password: str, code: int) -> None:
    told: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, f"paho-{user}", protocol=paho.MQTTv5)
    client.username_pw_set(user, password)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: told.append(reason.value)
    client.connect("127.0.0.1", site.nodes[1].port)
    deadline = time.monotonic() + 5
    while not told:
        assert time.monotonic() < deadline
        client.loop(0.1)
    client.disconnect()
    assert told == [code]


def test_a_password_that_was_changed(site: Site, opened: Opened) -> None:
    opened("dora", "right", "changed")
    with contextlib.closing(sqlite3.connect(site.database)) as database, database:
        before = database.execute("SELECT password_hash FROM mqtt_user WHERE username = 'dora'").fetchone()
        database.execute(
            "UPDATE mqtt_user SET password_hash = ? WHERE username = 'dora'", (hash_password("new"),)
        )
    deadline = time.monotonic() + 5
    while opened.ask("dora", "right", "changed")[1] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    opened("dora", "new", "changed", 1)
    with contextlib.closing(sqlite3.connect(site.database)) as database, database:
        database.execute("UPDATE mqtt_user SET password_hash = ? WHERE username = 'dora'", before)


def test_rights_that_were_changed_are_reviewed(site: Site, opened: Opened) -> None:
    """On both nodes, at a word: what a client may not have any more ends; what nobody can say it keeps."""
    clients = [opened("dora", "right", f"reviewed-{node}", node) for node in (0, 1)]
    for client in clients:
        assert client.subscribe("devices/dora/a", "news/#").reason_codes == [0, 0]
    with contextlib.closing(sqlite3.connect(site.database)) as database, database:
        database.execute("INSERT INTO mqtt_acl VALUES (0, 'dora', 'deny', 'all', 'devices/dora/a')")
    site.server.stop()  # it is asked about news/#
    try:
        url = f"http://127.0.0.1:{site.nodes[0].admin_port}"
        command = [sys.executable, "-m", "broker", "ctl", "review", "--admin", url, "--json"]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=20).stdout)
    finally:
        site.server.start()
        with contextlib.closing(sqlite3.connect(site.database)) as database, database:
            database.execute("DELETE FROM mqtt_acl WHERE position = 0")
    assert answer["silent"] == {}
    assert len(answer["nodes"]) == 2
    for node in answer["nodes"]:
        assert (node["revoked"], node["unsure"], node["done"]) == (1, 1, True), node
    publisher = opened("root", "right", "reviewing")
    publisher.send(Publish("devices/dora/a", b"gone", 1, False, False, 1))
    publisher.send(Publish("news/1", b"kept", 1, False, False, 2))
    for client in clients:
        assert client.expect(Publish).payload == b"kept"


def test_a_storm_while_the_server_is_down(site: Site, opened: Opened) -> None:
    """Others come in all the while; when it is there again all do."""
    node = site.nodes[0]
    site.server.stop()
    try:
        for number in range(30):
            assert opened.ask("carl", "x", f"storm-{number}")[1] == 0x88
        opened("dora", "right", "calm")
        assert len(node.events("could not be asked")) <= 2
    finally:
        site.server.start()
    deadline = time.monotonic() + 15
    while opened.ask("ann", "secret", "after")[1] != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "moorline_auth_requests_total" in node.get("/metrics").text


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    """Its clients are refused in time; a storm of them finds the node at work."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "MOORLINE_AUTH__HTTP_AUTHENTICATE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "MOORLINE_AUTH__TIMEOUT_SECONDS": "2",  # within which all of them come
            "MOORLINE_AUTH__HTTP_QUEUE": "5",
        }
        with running_node(tmp_path, environment=environment) as node:
            clients = [WireClient(node.port) for _ in range(60)]
            for number, client in enumerate(clients):
                client.send(Connect(f"c{number}", MQTT_5, True, 0, "ann", b"secret"))
            before = time.monotonic()
            codes = [client.expect(Connack).reason_code for client in clients]
            assert time.monotonic() - before < 2 + 2.5
            assert set(codes) == {0x88, 0x89}
            assert codes.count(0x89) == 60 - 16 - 5
            for client in clients:
                client.close()
            log = node.output()
            assert "Traceback" not in log
            assert "secret" not in log


def test_a_key_that_is_withdrawn(site: Site, opened: Opened) -> None:
    """Who came in by it is disconnected within a second; others stay."""

    def token(kid: str) -> str:
        return jwt.encode({"sub": "tom", "exp": int(time.time()) + 60}, kid * 20, "HS256", {"kid": kid})

    before = site.keys.read_text()
    old = [opened(None, token("old"), f"old-{node}", node) for node in (0, 1)]
    new = opened(None, token("new"), "new")
    dora = opened("dora", "right", "dora")
    site.keys.write_text(KEYS.format("new"))
    changed = time.monotonic()
    try:
        for client in old:
            packets = client.wait_closed()
            assert isinstance(packets[-1], Disconnect)
            assert packets[-1].reason_code == DENIED
        assert time.monotonic() - changed < 1.5
        assert opened.ask(None, token("old"), "again")[1] == 0x86
        assert new.ping() == dora.ping() == []
    finally:
        site.keys.write_text(before)


def test_without_the_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from broker.cli import main; sys.argv[0] = 'moorline'; main()"
    )
    arguments = [sys.executable, "-c", program, "serve", "--listen", "127.0.0.1:0", "--admin", "off"]
    environment = {
        "MOORLINE_AUTH__SQL_URL": "sqlite+aiosqlite:///x",
        "MOORLINE_AUTH__SQL_USER_QUERY": "SELECT 1",
        "MOORLINE_PURE": "1",
        "PATH": "/usr/bin:/bin",
    }
    ended = subprocess.run(
        [*arguments, "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 2
    assert "pip install 'moorline[sql]'" in ended.stderr
