"""Two nodes of one broker whose users and rules are in Redis, and clients of it."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
from argon2 import PasswordHasher

from broker.auth.scram_keys import format_keys, make_keys
from broker.files import replace_file
from broker.mqtt import MQTT_5, Auth, Connack, Connect, Disconnect, Properties, ReasonCode, Will
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import WireClient
from tests.scram_peer import METHOD, ScramPeer
from tests.tools import NO_TLS

PASSWORD: Final = "corréct horse"
cheap_hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
CHEAP: Final = cheap_hasher.hash(PASSWORD)


def filed(name: str, password: str | None = PASSWORD) -> str:
    """A line of the password file; without a password for SCRAM there are no keys."""
    keys = "" if password is None else f":{format_keys(make_keys(password, 4096))}"
    return f"{name}:{CHEAP}{keys}\n"


FILE: Final = filed("filed", None) + filed("keyed")
RULES = """
[groups]
listed = ["listed"]

[[rules]]
effect = "allow"
groups = ["operators", "listed"]
filters = ["#"]

[[rules]]
effect = "allow"
users = ["*"]
filters = ["home/%u/#", "shared/#"]
"""


@dataclass(frozen=True)
class Site:
    """Two nodes of one broker."""

    nodes: tuple[NodeProcess, NodeProcess]
    server: RedisServer
    passwords: Path
    """The password file of both."""

    def port_of_files(self, node: int = 0) -> int:
        """Of the listener that asks the password file only, below `shared/`."""
        found = re.search(
            r"^  mqtt +\S+:(\d+), mount point shared/$", self.nodes[node].output(), re.MULTILINE
        )
        assert found is not None
        return int(found[1])

    def replace_passwords(self, text: str) -> None:
        """Returns when both nodes have read them."""
        before = [len(node.events("read again")) for node in self.nodes]
        replace_file(self.passwords, [text])
        for node, count in zip(self.nodes, before, strict=True):
            wait(lambda node=node, count=count: len(node.events("read again")) > count)  # type: ignore[misc]  # bound

    def ask(self, method: str, path: str, body: object = None, node: int = 0) -> httpx.Response:
        url = f"http://127.0.0.1:{self.nodes[node].admin_port}/api/v1{path}"
        return httpx.request(method, url, json=body, timeout=5.0, trust_env=False, verify=NO_TLS)

    def put(self, name: str, node: int = 0, **fields: object) -> None:
        answer = self.ask("PUT", f"/users/{quote(name, safe='')}", fields, node)
        assert answer.is_success, answer.text

    def delete(self, name: str) -> None:
        assert self.ask("DELETE", f"/users/{name}", {}).is_success

    def set_rules(self, text: str) -> None:
        """Returns when both nodes have read them."""
        before = [len(node.events("rules in Redis read")) for node in self.nodes]
        assert self.ask("PUT", "/rules", {"text": text}).is_success
        for node, count in zip(self.nodes, before, strict=True):
            wait(lambda node=node, count=count: len(node.events("rules in Redis read")) > count)  # type: ignore[misc]  # bound


def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    """With users that have keys for SCRAM, two of a file, and rules."""
    passwords = directory / "passwords"
    passwords.write_text(FILE)
    environment = {
        "MOORLINE_BANS__GUESS_LIMIT": "0",  # bad passwords have to wait then, and there are many here
        "MOORLINE_AUTH__PASSWORD_FILE": str(passwords),
        "MOORLINE_AUTH__REDIS_USERS": "true",
        "MOORLINE_AUTH__REDIS_RULES": "true",
        "MOORLINE_AUTH__SCRAM": "true",
        "MOORLINE_AUTH__SCRAM_ITERATIONS": "4096",
        "MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0",
        "MOORLINE_LISTENERS__FILES__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__FILES__AUTHENTICATION": '["password_file", "SCRAM-SHA-256"]',
        "MOORLINE_LISTENERS__FILES__MOUNT_POINT": "shared/",
    }
    with ExitStack() as stack:
        server = stack.enter_context(running_redis(directory / "redis"))
        nodes = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            node = running_node(directory / name, "--redis", server.url, environment=environment)
            nodes.append(stack.enter_context(node))
        site = Site((nodes[0], nodes[1]), server, passwords)
        for name in ("ann", "bob"):
            site.put(name, password=PASSWORD, expect="new")
        site.put("olga", password=PASSWORD, groups=["operators"])
        site.set_rules(RULES)
        yield site


class Opened:
    """Clients of one test; closed at its end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._clients: list[WireClient] = []

    def raw(self, version: int = MQTT_5, node: int = 0, port: int | None = None) -> WireClient:
        client = WireClient(port or self._site.nodes[node].port, version)
        self._clients.append(client)
        return client

    def code(self, user: str | None, password: str | None, version: int = MQTT_5, node: int = 0) -> int:
        """That of the CONNACK."""
        client = self.raw(version, node)
        client.send(connect("who", user, password, version))
        return client.expect(Connack).reason_code

    def __call__(self, user: str, password: str = PASSWORD, node: int = 0) -> WireClient:
        client = self.raw(node=node)
        client.send(connect(f"{user}-{len(self._clients)}", user, password))
        assert client.expect(Connack).reason_code == 0
        return client

    def scram(
        self,
        user: str,
        password: str = PASSWORD,
        node: int = 0,
        will: Will | None = None,
        port: int | None = None,
    ) -> tuple[WireClient, Connack | Disconnect]:
        """By SCRAM, as an implementation of others does it; the answer."""
        client = self.raw(node=node, port=port)
        peer = ScramPeer(user, password)
        first = data(peer.first())
        client.send(Connect(f"{user}-{len(self._clients)}", MQTT_5, True, 0, None, None, will, first))
        return client, finish(client, peer)

    def close(self) -> None:
        for client in self._clients:
            client.close()


def connect(client_id: str, user: str | None, password: str | None, version: int = MQTT_5) -> Connect:
    secret = None if password is None else password.encode()
    return Connect(client_id, version, True, 0, user, secret, None, None)


def data(data: bytes) -> Properties:
    return Properties(authentication_method=METHOD, authentication_data=data)


def data_of(packet: Auth | Connack) -> bytes:
    properties = packet.properties
    assert properties is not None
    assert properties.authentication_method == METHOD
    assert properties.authentication_data is not None
    return properties.authentication_data


def finish(client: WireClient, peer: ScramPeer) -> Connack | Disconnect:
    """The rest of an exchange that has begun. Checks what the server has proved."""
    challenge = client.next()
    if not isinstance(challenge, Auth):
        assert isinstance(challenge, Connack | Disconnect)
        return challenge
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(peer.final(data_of(challenge)))))
    answer = client.next()
    assert isinstance(answer, Connack | Disconnect)
    if answer.reason_code == 0 and isinstance(answer, Connack):
        peer.check(data_of(answer))
    return answer
