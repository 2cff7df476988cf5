"""Settings are read again while a node runs, and the new ones hold."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from broker.mqtt import Puback, Publish, ReasonCode
from tests.cli.program import run
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, WireClient, connected

RELOADED = "settings were read again"


class Configured:
    """A node with a file that may change."""

    def __init__(self, node: NodeProcess, file: Path) -> None:
        self.node = node
        self.file = file

    def reload(self, text: str) -> dict[str, Any]:
        """With another file; what the node says."""
        self.file.write_text(text)
        probe = self.node.post("/api/v1/settings/reload", {})
        assert probe.status == 200, probe
        (said,) = json.loads(probe.text)["nodes"]
        assert isinstance(said, dict)
        return said

    def ctl(self, *arguments: str) -> Result:
        """`moorline ctl ...`."""
        return run("ctl", *arguments, "--admin", f"127.0.0.1:{self.node.admin_port}")


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """One for all tests, each of which says what is in the file."""
    directory = tmp_path_factory.mktemp("reload")
    file = directory / "moorline.toml"
    file.touch()
    with running_node(directory, "--config", str(file), "--node-name", "alpha") as node:
        yield Configured(node, file)


def test_a_limit_that_changes_holds_for_those_who_are_connected(configured: Configured) -> None:
    configured.reload("")
    with connected(configured.node.port, "c") as client:
        assert client.subscribe("a", "b").reason_codes == [0, 0]
        said = configured.reload("[limits]\nsubscriptions_per_session = 2\n")
        assert said["applied"] == [{"name": "limits.subscriptions_per_session", "from": 1000, "to": 2}]
        assert (said["restart"], said["mistakes"]) == ([], [])
        assert client.subscribe("c").reason_codes == [ReasonCode.QUOTA_EXCEEDED]
        assert [each["name"] for each in configured.reload("")["applied"]] == [
            "limits.subscriptions_per_session"
        ]
        assert client.subscribe("c").reason_codes == [0]


def test_a_queue_limit_holds_for_the_queues_that_there_are(configured: Configured) -> None:
    node = configured.node
    with connected(node.port, "queued", properties=HOUR) as subscriber:
        subscriber.subscribe("q", qos=1)
    configured.reload("[session]\nqueue_limit = 2\nqueue_policy = 'drop_new'\n")
    with connected(node.port, "publisher") as publisher:
        for number in range(4):
            publisher.publish("q", b"%d" % number, 1)
        configured.reload("")
        publisher.publish("q", b"last", 1)
    with connected(node.port, "queued", clean_start=False, properties=HOUR) as subscriber:
        assert subscriber.payloads(3) == [b"0", b"1", b"last"]


def test_topics_keep_alive_and_who_may_come_in(configured: Configured) -> None:
    node = configured.node
    with connected(node.port, "before"):
        configured.reload(
            "[limits]\ntopic_levels = 2\nconnections_maximum = 2\n[mqtt]\nkeep_alive_maximum_seconds = 7\n"
        )
        with WireClient(node.port) as client:
            properties = client.connect("later", keep_alive=100).properties
            assert properties is not None
            assert properties.server_keep_alive == 7
            assert client.publish("a/b", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
            assert client.publish("a/b/c", b"", 1) == ReasonCode.TOPIC_NAME_INVALID
            with contextlib.suppress(ConnectionResetError), WireClient(node.port) as third:
                third.wait_closed()
            assert 'moorline_refused_total{limit="connections_maximum"} 1.0' in node.get("/metrics").text
    configured.reload("")
    with connected(node.port, "a"), connected(node.port, "b"), connected(node.port, "c") as client:
        assert client.publish("a/b/c", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS


def test_topics_of_the_broker_begin_and_end(configured: Configured) -> None:
    configured.reload("[mqtt]\nsys_interval_seconds = 0\n")
    with connected(configured.node.port, "c") as client:
        client.subscribe("$SYS/brokers/alpha/uptime")
        client.poll(0.2)
        configured.reload("[mqtt]\nsys_interval_seconds = 1\n")
        assert client.message().topic == "$SYS/brokers/alpha/uptime"
    configured.reload("")


def test_a_file_with_mistakes_changes_nothing_and_all_are_told(configured: Configured) -> None:
    configured.reload("")
    said = configured.reload(
        "[limits]\nsubscriptions_per_session = 2\nno_such = 1\n[session]\nqueue_limit = 0\n"
    )
    assert said["applied"] == []
    assert len(said["mistakes"]) == 2
    with connected(configured.node.port, "c") as client:
        assert client.subscribe("a", "b", "c").reason_codes == [0, 0, 0]
    assert configured.node.wait_for("settings were read again and not taken")
    assert 'moorline_settings_reloads_total{result="refused"} 1.0' in configured.node.get("/metrics").text
    configured.file.unlink()
    probe = configured.node.post("/api/v1/settings/reload", {"node": "alpha"})
    (said,) = json.loads(probe.text)["nodes"]
    assert "moorline.toml: No such file" in said["mistakes"][0]


def test_what_needs_a_restart_is_told_each_time(configured: Configured) -> None:
    text = "[node]\nbacklog = 5\n[listeners.web]\naddress = 'ws://127.0.0.1:0'\n"
    for _ in range(2):
        assert configured.reload(text)["restart"] == ["node.backlog", "listeners.web"]
    assert configured.reload("")["restart"] == []


def test_by_a_signal_the_log_tells(configured: Configured) -> None:
    node = configured.node
    configured.reload("")
    before = len(node.events(RELOADED))
    configured.file.write_text("[node]\nlog_level = 'debug'\n")
    node.send_signal(signal.SIGHUP)
    node.wait_for("node.log_level")
    assert node.events(RELOADED)[before]["applied"] == "node.log_level"
    configured.reload("")


def test_by_the_command(configured: Configured) -> None:
    configured.reload("")
    configured.file.write_text("[session]\ninflight_limit = 9\n[node]\nbacklog = 5\n")
    result = configured.ctl("reload")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("alpha.")
    assert first.endswith(": session.inflight_limit 128 -> 9")
    assert second == "  restart needed: node.backlog"
    configured.file.write_text("[session]\ninflight_limit = 0\n")
    result = configured.ctl("reload", "--node", "alpha")
    assert result.exit_code == 1
    assert "inflight_limit" in result.stderr
    assert json.loads(configured.ctl("reload", "--json").stdout)["silent"] == {}
    assert configured.ctl("reload", "--node", "beta").exit_code == 1
    configured.reload("")


def test_a_window_counts_for_sessions_that_come_later(configured: Configured) -> None:
    node = configured.node
    configured.reload("[session]\ndirect_inflight_limit = 1\n")
    with connected(node.port, "s") as subscriber, connected(node.port, "p") as publisher:
        subscriber.subscribe("w", qos=1)
        for number in range(2):
            publisher.publish("w", b"%d" % number, 1)
        first = subscriber.expect(Publish)
        subscriber.assert_silence()
        subscriber.send(Puback(first.packet_id, 0, None))
        assert subscriber.expect(Publish).payload == b"1"
    configured.reload("")


def test_what_is_shown_is_what_holds(configured: Configured) -> None:
    configured.reload("[session]\nqueue_limit = 77\n[node]\nbacklog = 5\n")
    shown = json.loads(configured.node.get("/api/v1/settings").text)["settings"]
    configured.reload("")
    assert (shown["session"]["queue_limit"]["value"], shown["node"]["backlog"]["value"]) == (77, 1024)
