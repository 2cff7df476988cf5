"""No secret is in any output: a node with one of each kind, at the chattiest log level, and with failures."""

import base64
import json
import secrets
import time
from collections.abc import Iterator
from typing import cast

import jwt
import pytest
import redis

from broker.auth.password_file import hash_password
from broker.auth.scram_keys import format_keys, make_keys
from broker.mqtt import MQTT_5, Auth, Connack, Connect, Properties, Publish, ReasonCode, Will
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.stored_site import data, data_of
from tests.node.wire import HOUR, WireClient
from tests.scram_peer import ScramPeer


def _secret(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(8)}"


REDIS_PASSWORD = _secret("redis")
PASSWORD = _secret("password")
WRONG = _secret("wrong")
KEY = _secret("key") * 3
PAYLOAD = _secret("payload")
STORED = _secret("stored")
WILL = _secret("will")
CORRELATION = _secret("correlation")
AUTHENTICATION = _secret("authentication")
SCRAM = make_keys(PASSWORD, 4096)
TOKEN = jwt.encode({"sub": "tom", "exp": time.time() + 3600}, KEY, "HS256", headers={"kid": "k"})
BAD_TOKEN = jwt.encode({"sub": "tom", "exp": 1}, KEY, "HS256", headers={"kid": "k"})
ANYWHERE = (
    *(REDIS_PASSWORD, PASSWORD, WRONG, KEY, AUTHENTICATION, *TOKEN.split("."), BAD_TOKEN),
    *(base64.b64encode(key).decode() for key in (SCRAM.stored_key, SCRAM.server_key)),
    *(repr(key)[2:-1] for key in (SCRAM.stored_key, SCRAM.server_key)),
)
"""May be nowhere at all."""
STORED_ON_PURPOSE = (STORED, WILL)
"""Messages that wait are in Redis, and nowhere else."""
NOT_STORED = (PAYLOAD, CORRELATION)
RULES = """
[[rules]]
effect = "deny"
filters = ["denied/#"]

[[rules]]
effect = "allow"
filters = ["#"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, str]]:
    """A node, and the URL of its Redis."""
    directory = tmp_path_factory.mktemp("secrets")
    (directory / "passwords").write_text(f"olga:{hash_password(PASSWORD)}:{format_keys(SCRAM)}\n")
    (directory / "rules.toml").write_text(RULES)
    (directory / "key").write_text(KEY)
    (directory / "keys.toml").write_text('[[keys]]\nkid = "k"\nalgorithm = "HS256"\nsecret_file = "key"\n')
    with running_redis(directory / "redis") as server:
        with server.client() as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        url = server.url.replace("//", f"//:{REDIS_PASSWORD}@")
        environment = {
            "MOORLINE_REDIS__URL": url,
            "MOORLINE_AUTH__PASSWORD_FILE": str(directory / "passwords"),
            "MOORLINE_AUTH__SCRAM": "true",
            "MOORLINE_AUTH__RULES_FILE": str(directory / "rules.toml"),
            "MOORLINE_AUTH__JWT_KEYS": str(directory / "keys.toml"),
            "MOORLINE_AUTH__AUDIT_FILE": str(directory / "audit.log"),
            "MOORLINE_NODE__LOG_LEVEL": "debug",
        }
        with running_node(directory, environment=environment) as node:
            yield node, url


def _connect(
    node: NodeProcess, client_id: str, password: str, *, will: bool = False, method: str | None = None
) -> tuple[WireClient, int]:
    client = WireClient(node.port)
    properties = HOUR
    if method is not None:
        properties = Properties(
            authentication_method=method,
            authentication_data=AUTHENTICATION.encode(),
            session_expiry_interval=9,
        )
    last = Will("wills/x", WILL.encode(), 1, False, None) if will else None
    client.send(Connect(client_id, MQTT_5, True, 0, "olga", password.encode(), last, properties))
    return client, client.expect(Connack).reason_code


def _use_every_secret(node: NodeProcess) -> None:
    """As clients do, well and badly."""
    for password in (WRONG, BAD_TOKEN):
        client, code = _connect(node, "guesser", password)
        assert code >= 0x80
        client.close()
    client, code = _connect(node, "method", PASSWORD, method="SCRAM-X")
    assert code >= 0x80
    client.close()
    for password, expected in ((PASSWORD, 0), (WRONG, 0x86)):
        client = WireClient(node.port)
        peer = ScramPeer("olga", password)
        client.send(Connect("scram", MQTT_5, True, 0, None, None, None, data(peer.first())))
        final = data(peer.final(data_of(client.expect(Auth))))
        client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, final))
        assert client.expect(Connack).reason_code == expected
        client.close()
    reader, code = _connect(node, "away", PASSWORD)
    assert code == 0
    reader.subscribe("stored/#", "wills/#", qos=1)
    reader.disconnect()
    tom, code = _connect(node, "tom", TOKEN, will=True)
    assert code == 0
    tom.subscribe("live", qos=0)
    properties = Properties(correlation_data=CORRELATION.encode(), response_topic="answers")
    tom.publish("live", PAYLOAD.encode(), properties=properties)
    tom.publish("stored/x", STORED.encode(), qos=1)
    assert tom.publish("denied/x", PAYLOAD.encode(), qos=1, properties=properties) == 0x87
    tom.send_bytes(b"\x30\x7f\xff\xff" + PAYLOAD.encode() * 8)  # no packet
    tom.wait_closed()
    tom.close()
    broken, code = _connect(node, "broken", PASSWORD)
    broken.send(Publish("#", PAYLOAD.encode(), 0, False, False, 0, None))
    broken.wait_closed()
    broken.close()


def _dump(url: str) -> bytes:
    """All that is in Redis."""
    found = []
    with redis.Redis.from_url(url) as client:
        for key in cast(list[bytes], client.keys("*")):
            found.append(key)
            kind = cast(bytes, client.type(key))
            reading = {
                b"string": lambda key: client.get(key),
                b"hash": lambda key: client.hgetall(key),
                b"set": lambda key: client.smembers(key),
                b"zset": lambda key: client.zrange(key, 0, -1),
                b"stream": lambda key: client.xrange(key),
            }
            found.append(repr(reading[kind](key)).encode())
    return b"\n".join(found)


def test_no_secret_is_in_any_output(site: tuple[NodeProcess, str]) -> None:
    node, url = site
    _use_every_secret(node)
    ban = {"kind": "user", "value": "mallory", "reason": "a test"}
    assert node.post("/api/v1/bans", ban).status == 201
    message = {"topic": "live", "payload": PAYLOAD, "content_type": CORRELATION}
    assert node.post("/api/v1/publish", message).status == 200
    assert node.post("/api/v1/publish", message | {"topic": "#"}).status == 422
    below = ("nodes", "health", "bans", "settings", "metrics", "retained", "openapi.json")
    paths = ("/metrics", "/healthz", "/readyz", *(f"/api/v1/{path}" for path in below))
    pages = {path: node.get(path) for path in paths}
    assert all(page.status == 200 for page in pages.values())
    dump = _dump(url).decode(errors="replace")
    assert STORED in dump, "else the dump is not whole"
    assert node.stop() == 0
    log, audit = node.output(), (node.directory / "audit.log").read_text()
    for event in ("connect", "publish", "login"):
        assert event in [json.loads(line)["event"] for line in audit.splitlines()]
    assert "Traceback" not in log
    outputs = {**{path: page.text for path, page in pages.items()}, "log": log, "audit file": audit}
    found = {
        name: [secret for secret in (*ANYWHERE, *STORED_ON_PURPOSE, *NOT_STORED) if secret in text]
        for name, text in outputs.items()
    }
    assert {name: secrets for name, secrets in found.items() if secrets} == {}
    assert [secret for secret in (*ANYWHERE, *NOT_STORED) if secret in dump] == []
