"""`moorline ctl retained`, `publish`, `metrics` and `settings`, against a real node."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli import program
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import connected


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {"MOORLINE_SESSION__QUEUE_LIMIT": "77"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield node


def run(node: NodeProcess, *arguments: str, given: bytes | None = None) -> Result:
    environment = {"MOORLINE_ADMIN_URL": f"127.0.0.1:{node.admin_port}"}
    return program.run("ctl", *arguments, environment=environment, given=given)


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_retained_messages(node: NodeProcess) -> None:
    for topic in ("r/a", "r/a/b", "r/é %/c", "r/\x1b[2J", "r//x", "r/line\nbreak"):
        told(run(node, "publish", "--retain", "--qos", "1", topic, "hello"))
    lines = told(run(node, "retained", "list", "r/")).splitlines()
    assert lines[0].split() == ["TOPIC", "QOS", "BYTES", "EXPIRES"]
    assert [line.rsplit(None, 3) for line in lines[1:]] == [
        ["r//x", "1", "5", "-"],
        ["r/\\x1b[2J", "1", "5", "-"],
        ["r/a", "1", "5", "-"],
        ["r/a/b", "1", "5", "-"],
        ["r/line\\nbreak", "1", "5", "-"],
        ["r/é %/c", "1", "5", "-"],
    ]
    assert told(run(node, "retained", "tree", "r/", "--depth", "3")).splitlines() == [
        "(empty) (1)",
        "  x *",
        "\\x1b[2J *",
        "a (1) *",
        "  b *",
        "line\\nbreak *",
        "é % (1)",
        "  c *",
    ]
    assert told(run(node, "retained", "tree", "r")) == "r (6)\n"
    some = run(node, "retained", "list", "r/", "--limit", "2")
    assert some.stderr == "there are more: --after r/\\x1b[2J\n"
    rest = json.loads(told(run(node, "retained", "list", "r/", "--after", "r/a", "--json")))
    assert [each["topic"] for each in rest["retained"]] == ["r/a/b", "r/line\nbreak", "r/é %/c"]
    assert "there may be more" in run(node, "retained", "tree", "--limit", "1").stderr
    assert json.loads(told(run(node, "retained", "tree", "r/a", "--json")))["levels"][0]["below"] == 1
    for topic in ("r/é %/c", "r/line\nbreak"):
        assert "payload         hello" in told(run(node, "retained", "show", topic))
        assert told(run(node, "retained", "delete", topic)).endswith("is cleared\n")
        gone = run(node, "retained", "show", topic)
        assert (gone.exit_code, "refused (404): there is no retained" in gone.stderr) == (1, True)


def test_payloads_of_any_kind(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"\x00\xff\n")
    told(run(node, "publish", "--retain", "p/bytes", "--file", str(file)))
    shown = run(node, "retained", "show", "p/bytes")
    assert (shown.exit_code, "AP8K" in shown.stdout, "base64" in shown.stderr) == (0, True, True)
    assert run(node, "retained", "show", "p/bytes", "--raw").stdout_bytes == b"\x00\xff\n"
    told(run(node, "publish", "--retain", "p/stdin", "--file", "-", given="grüße".encode()))
    assert run(node, "retained", "show", "p/stdin", "--raw").stdout_bytes == "grüße".encode()
    assert json.loads(told(run(node, "retained", "show", "p/stdin", "--json")))["payload"] == "grüße"
    told(run(node, "publish", "--retain", "p/stdin"))
    assert run(node, "retained", "show", "p/stdin").exit_code == 1


def test_a_file_that_is_too_large_is_not_sent(node: NodeProcess) -> None:
    result = run(node, "publish", "p/large", "--file", "-", given=bytes(1_048_577))
    assert (result.exit_code, "more than 1048576 bytes" in result.stderr) == (2, True)


def test_publish_tells_whom_it_reached(node: NodeProcess) -> None:
    assert told(run(node, "publish", "nobody", "x")) == "nobody: no matching subscribers\n"
    with connected(node.port, "reader") as reader:
        reader.subscribe("t", qos=1)
        options = ["--content-type", "a/b", "--response-topic", "re", "--correlation-data", "c"]
        options += ["--expiry", "60", "--user-property", "a=1=2", "--user-property", "a="]
        assert told(run(node, "publish", "t", "x", "--qos", "1", *options)) == "t: published to 1 session\n"
        properties = reader.message().properties
        assert properties is not None
        assert (properties.content_type, properties.correlation_data) == ("a/b", b"c")
        assert properties.user_property == (("a", "1=2"), ("a", ""))
        assert json.loads(told(run(node, "publish", "t", "x", "--json")))["sessions"] == 1
        assert told(run(node, "publish", "t", "x", "--retain")).endswith("1 session; retained: yes\n")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("publish", "a/#", "x"), 1, "topic"),
        (("publish", "$SYS/x", "x"), 1, "$SYS"),
        (("publish", "a", "x", "--file", "-"), 2, "either PAYLOAD or --file"),
        (("publish", "a", "--file", "/nowhere"), 2, "No such file"),
        (("publish", "a", "--user-property", "a"), 2, "NAME=VALUE"),
        (("retained", "delete", "nowhere"), 1, "refused (404)"),
        (("settings", "colours"), 2, "there is no table colours"),
    ],
)
def test_what_is_refused(node: NodeProcess, arguments: tuple[str, ...], code: int, reason: str) -> None:
    result = run(node, *arguments)
    assert (result.exit_code, reason in result.stderr) == (code, True), result.output


def test_metrics(node: NodeProcess) -> None:
    lines = told(run(node, "metrics", "moorline_messages_received")).splitlines()
    assert lines[0].split() == ["NODE", "METRIC", "VALUE"]
    assert any("moorline_messages_received_total {qos=1}" in line for line in lines)
    assert "_bucket" not in told(run(node, "metrics"))
    everything = json.loads(told(run(node, "metrics", "", "--cluster", "--json")))["metrics"]
    assert {"process_cpu_seconds_total", "moorline_redis_batch_items_bucket"} <= {
        each["name"] for each in everything
    }


def test_settings(node: NodeProcess) -> None:
    lines = told(run(node, "settings", "session")).splitlines()
    assert ["session.queue_limit", "*", "77", "-"] in [line.split() for line in lines]
    assert ["session.queue_policy", "drop_oldest", "-"] in [line.split() for line in lines]
    changed = json.loads(told(run(node, "settings", "--changed", "--json")))["settings"]
    assert set(changed["session"]) == {"queue_limit"}
