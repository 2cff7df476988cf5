"""What operators see and do by the admin API of a node: retained messages, publish, metrics, settings."""

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from broker.mqtt import Properties
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import NO_TLS


class Admin:
    """Asks the API of a node."""

    def __init__(self, node: NodeProcess) -> None:
        self._base = f"http://127.0.0.1:{node.admin_port}/api/v1"

    def ask(self, method: str, path: str, status: int = 200, **body: object) -> Any:
        """The answer in JSON. No client of HTTP may change the path."""
        json = body if method in ("POST", "DELETE") else None
        answer = httpx.request(
            method, f"{self._base}{path}", json=json, timeout=5.0, trust_env=False, verify=NO_TLS
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def retained(self, topic: str, status: int = 200) -> Any:
        return self.ask("GET", f"/retained/{quote(topic, safe='')}", status)

    def delete(self, topic: str, status: int = 200) -> Any:
        return self.ask("DELETE", f"/retained/{quote(topic, safe='')}", status)

    def publish(self, topic: str, status: int = 200, **body: object) -> Any:
        return self.ask("POST", "/publish", status, topic=topic, **body)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("node")
    config = directory / "moorline.toml"
    config.write_text(
        '[listeners.tenant]\naddress = "mqtt://127.0.0.1:0"\nmount_point = "tenants/a"\n'
        "[limits]\nretained_payload_bytes = 100000\n[mqtt]\nsys_interval_seconds = 1\n"
    )
    with running_node(directory, "--config", str(config)) as node:
        yield node


@pytest.fixture
def admin(node: NodeProcess) -> Admin:
    return Admin(node)


@pytest.fixture
def reader(node: NodeProcess, name: str) -> Iterator[WireClient]:
    with connected(node.port, f"{name}-reader") as client:
        yield client


ODD_TOPICS = ("/", "//", "a b/c d", "ä/ö/☃", "100%/%2F/x", "x/{y}/?q=1&r", "../a/./b", "tab\t/x", "'\";<>")


def test_topics_of_any_kind(admin: Admin, reader: WireClient) -> None:
    for topic in ODD_TOPICS:
        reader.publish(topic, b"x", 1, retain=True)
        assert (admin.retained(topic)["topic"], admin.retained(topic)["payload"]) == (topic, "x")
    listed = admin.ask("GET", "/retained?limit=500")
    assert {each["topic"] for each in listed["retained"]} >= set(ODD_TOPICS)
    assert admin.ask("GET", f"/retained?prefix={quote('100%/%2')}")["retained"][0]["topic"] == "100%/%2F/x"
    reader.publish("new\nline", b"x", 1, retain=True)  # which no path has
    assert admin.ask("GET", "/retained/?topic=new%0Aline")["topic"] == "new\nline"
    assert admin.ask("DELETE", "/retained/?topic=new%0Aline")["topic"] == "new\nline"
    for topic in ODD_TOPICS:
        assert admin.delete(topic)["retained"] == "cleared"
        assert f"no retained message of {topic}" in admin.retained(topic, 404)["error"]
        assert admin.delete(topic, 404)


def test_what_is_told_of_a_message(admin: Admin, reader: WireClient, name: str) -> None:
    properties = Properties(
        payload_format_indicator=1,
        content_type="text/plain",
        response_topic="to/me",
        correlation_data=b"\x00\xff",
        user_property=(("a", "1"), ("a", "2")),
        message_expiry_interval=3600,
    )
    reader.publish(f"{name}/text", "Grüße\n".encode(), 2, retain=True, properties=properties)
    reader.publish(f"{name}/bytes", b"\x00\xfe", 0, retain=True)
    reader.publish(f"{name}/control", b"\x1b[2J", 1, retain=True)
    shown = admin.retained(f"{name}/text")
    expires_at = shown.pop("expires_at")
    assert expires_at.endswith("Z")
    assert shown == {
        "topic": f"{name}/text",
        "qos": 2,
        "bytes": 8,
        "payload": "Grüße\n",
        "payload_base64": None,
        "content_type": "text/plain",
        "response_topic": "to/me",
        "correlation_data_base64": base64.b64encode(b"\x00\xff").decode(),
        "payload_format_indicator": 1,
        "user_properties": [["a", "1"], ["a", "2"]],
    }
    raw = admin.retained(f"{name}/bytes")
    assert (raw["payload"], raw["payload_base64"], raw["expires_at"]) == (None, "AP4=", None)
    assert admin.retained(f"{name}/control")["payload"] is None
    assert admin.ask("GET", f"/retained?prefix={name}/")["retained"] == [
        {"topic": f"{name}/bytes", "qos": 0, "bytes": 2, "expires_at": None},
        {"topic": f"{name}/control", "qos": 1, "bytes": 4, "expires_at": None},
        {"topic": f"{name}/text", "qos": 2, "bytes": 8, "expires_at": expires_at},
    ]


def test_pages_and_levels(admin: Admin, reader: WireClient, name: str) -> None:
    for topic in ("a", "a/1/x", "a/2", "b/1", "c"):
        reader.publish(f"{name}/{topic}", b"x", 1, retain=True)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = admin.ask(
            "GET", f"/retained?prefix={name}/&limit=2" + (f"&after={quote(after)}" if after else "")
        )
        found += [each["topic"].removeprefix(f"{name}/") for each in page["retained"]]
        after = page["next"]
    assert found == ["a", "a/1/x", "a/2", "b/1", "c"]
    page = admin.ask("GET", f"/retained?prefix={name}/&levels=true&limit=2")
    assert page == {
        "levels": [
            {"level": f"{name}/a", "name": "a", "retained": True, "below": 2},
            {"level": f"{name}/b", "name": "b", "retained": False, "below": 1},
        ],
        "next": f"{name}/b",
    }
    page = admin.ask("GET", f"/retained?prefix={name}/&levels=true&limit=2&after={name}/b")
    assert ([each["name"] for each in page["levels"]], page["next"]) == (["c"], None)
    roots = admin.ask("GET", "/retained?levels=true&limit=500")["levels"]
    assert {"level": name, "name": name, "retained": False, "below": 5} in roots


def test_wrong_questions(admin: Admin) -> None:
    for query in ("limit=0", "limit=501", "limit=x", "prefix=a/%23", "after=%2B", "levels=yes"):
        assert query.partition("=")[0] in admin.ask("GET", f"/retained?{query}", 422)["error"]
    assert "topic" in admin.ask("GET", "/retained/", 422)["error"]
    assert "topic" in admin.retained("a/#", 422)["error"]
    assert "$SYS" in admin.delete("$SYS/brokers", 422)["error"]
    assert admin.ask("GET", "/retained?prefix=none")["retained"] == []


def test_deleting_reaches_subscribers_and_redis(node: NodeProcess, admin: Admin, name: str) -> None:
    with connected(node.port, f"{name}-one") as one:
        one.publish(name, b"x", 1, retain=True)
        one.subscribe(name, qos=1)
        assert one.message().payload == b"x"
        done = admin.delete(name)
        assert (done["result"], done["sessions"], done["retained"]) == ("published", 1, "cleared")
        assert one.message().payload == b""
    with node.redis() as redis:
        fields = [field for key in redis.scan_iter("mq:*:retained") for field in redis.hkeys(key)]
    assert name.encode() not in fields
    (record,) = [each for each in node.events("audit") if each.get("topic") == name]
    assert record["event"] == "retained_deleted"


def test_mount_points_are_before_topics(node: NodeProcess, admin: Admin, name: str) -> None:
    (port,) = map(int, re.findall(r"^  mqtt +\S+:(\d+), mount point", node.output(), re.MULTILINE))
    with connected(port, f"{name}-tenant") as tenant:
        tenant.publish(name, b"x", 1, retain=True)
        assert admin.retained(f"tenants/a/{name}")["payload"] == "x"
        assert admin.retained(name, 404)
        tenant.subscribe(f"{name}/2", qos=1)
        assert admin.publish(f"tenants/a/{name}/2", payload="down", qos=1)["sessions"] == 1
        assert tenant.message().topic == f"{name}/2"


# Publish


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_at_each_qos(node: NodeProcess, admin: Admin, name: str, qos: int) -> None:
    with (
        connected(node.port, f"{name}-direct") as direct,
        connected(node.port, f"{name}-queued", properties=HOUR) as queued,
    ):
        direct.subscribe(name, qos=2)
        queued.subscribe(name, qos=2)
        done = admin.publish(name, payload="hello", qos=qos)
        assert (done["result"], done["sessions"], done["groups"], done["nodes"]) == ("published", 2, 0, 0)
        token = bytes.fromhex(done["token"] or "").decode()
        assert token.startswith("operator-") if qos == 2 else token == ""
        for client in (direct, queued):
            message = client.message()
            assert (message.payload, message.qos, message.retain) == (b"hello", qos, False)
            client.assert_silence()


def test_publish_with_all_that_there_is(admin: Admin, reader: WireClient, name: str) -> None:
    reader.subscribe(name, qos=1, retain_as_published=True)
    admin.publish(
        name,
        payload_base64="AP8=",
        qos=1,
        retain=True,
        expiry_seconds=60,
        content_type="image/png",
        response_topic="to/me",
        correlation_data_base64="AQ==",
        payload_format_indicator=0,
        user_properties=[["a", "1"], ["a", "2"]],
    )
    message = reader.message()
    assert (message.payload, message.retain) == (b"\x00\xff", True)
    properties = message.properties
    assert properties is not None
    assert (properties.content_type, properties.response_topic) == ("image/png", "to/me")
    assert (properties.correlation_data, properties.message_expiry_interval) == (b"\x01", 60)
    assert properties.user_property == (("a", "1"), ("a", "2"))
    assert admin.retained(name)["expires_at"] is not None
    assert admin.publish(name, retain=True)["retained"] == "cleared"


def test_publish_to_those_who_are_away_to_groups_and_to_nobody(
    node: NodeProcess, admin: Admin, name: str
) -> None:
    with connected(node.port, f"{name}-away", properties=HOUR) as away:
        away.subscribe(name, qos=1)
        away.disconnect()
    assert admin.publish(name, payload="1", qos=1)["sessions"] == 1
    assert admin.publish(name, payload="2")["result"] == "no matching subscribers"
    with WireClient(node.port) as away:
        away.connect(f"{name}-away", clean_start=False, properties=HOUR)
        assert away.payloads(1) == [b"1"]
        away.subscribe(f"$share/g/{name}/s", qos=1)
        done = admin.publish(f"{name}/s", payload="3", qos=1)
        assert (done["groups"], done["sessions"]) == (1, 0)
        assert away.payloads(1) == [b"3"]
    done = admin.publish(f"{name}/none", payload="x", qos=2)
    assert (done["result"], done["retained"]) == ("no matching subscribers", "no")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"topic": "a/#"}, "topic"),
        ({"topic": "+"}, "topic"),
        ({"topic": ""}, "topic"),
        ({"topic": "a\0"}, "topic"),
        ({"topic": "x" * 65_536}, "topic"),
        ({"topic": "$SYS/x"}, "$SYS"),
        ({"topic": "$delayed/1/x"}, "$delayed"),
        ({"topic": "a", "qos": 3}, "qos"),
        ({"topic": "a", "payload": "x", "payload_base64": "eA=="}, "give one"),
        ({"topic": "a", "payload_base64": "not base64"}, "base64"),
        ({"topic": "a", "payload": "x" * 1_048_570}, "mqtt.maximum_packet_size"),
        ({"topic": "a", "payload": "x" * 1_048_577}, "payload: more than"),
        ({"topic": "a", "payload": "x" * 100_001, "retain": True}, "limits.retained_payload_bytes"),
        ({"topic": "a", "payload_base64": "/w==", "payload_format_indicator": 1}, "not UTF-8"),
        ({"topic": "a", "response_topic": "a/+"}, "response_topic"),
        ({"topic": "a", "user_properties": [["a"]]}, "user_properties"),
        ({"topic": "a", "expiry_seconds": -1}, "expiry_seconds"),
        ({"topic": "a", "colour": "red"}, "colour"),
    ],
)
def test_what_is_not_published(admin: Admin, body: dict[str, Any], reason: str) -> None:
    assert reason in admin.ask("POST", "/publish", 422, **body)["error"]


def test_too_much_to_read(admin: Admin) -> None:
    assert "at most" in admin.publish("a", 413, payload="x" * 2_000_000)["error"]


# What the node says of itself


def test_metrics(admin: Admin, reader: WireClient) -> None:
    reader.publish("metrics", b"x", 1)

    def received() -> float:
        found = admin.ask("GET", "/metrics?name=moorline_messages_received_total")
        assert found["silent"] == []
        return float({each["labels"]["qos"]: each["value"] for each in found["metrics"]}["1"])

    deadline = time.monotonic() + 5
    while received() < 1:  # counted twice a second
        assert time.monotonic() < deadline
        time.sleep(0.05)
    names = {each["name"] for each in admin.ask("GET", "/metrics?cluster=true")["metrics"]}
    assert {"moorline_connections", "process_resident_memory_bytes"} <= names


def test_settings(admin: Admin, tmp_path: Path) -> None:
    found = admin.ask("GET", "/settings")["settings"]
    assert found["session"]["queue_limit"] == {
        "value": 10_000,
        "default": 10_000,
        "unit": None,
        "changed": False,
        "hidden": False,
    }
    assert found["listeners.tenant"]["mount_point"]["value"] == "tenants/a/"
    changed = admin.ask("GET", "/settings?changed=true")["settings"]
    assert set(changed["limits"]) == {"retained_payload_bytes"}
    assert changed["session"] == {}


def test_openapi(admin: Admin) -> None:
    found = admin.ask("GET", "/openapi.json")
    assert set(found["paths"]["/retained/{topic}"]) == {"get", "delete"}
