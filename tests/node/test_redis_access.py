"""Nodes whose user of Redis may do no more than it must: everything works, and Redis has refused nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis

from broker.mqtt import Properties, Will
from cluster.store.rights import access_list
from tests.node.harness import NodeProcess, refused_start, running_node
from tests.node.wire import HOUR, WireClient, connected
from tests.store.servers import KINDS, RunningServer, running_server, tls_server_for
from tests.tools import make_certificate

OLD, NEW = "an-old-password", "a-new-password"
SECONDS: Final = 10.0
ENVIRONMENT: Final = {
    "MOORLINE_TOPICS__EXCLUSIVE": "true",
    "MOORLINE_TOPICS__DELAYED_MAXIMUM_SECONDS": "5",
    "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "2",
}


@dataclass
class Guarded:
    """Two nodes, their Redis, and the file with the password of their user."""

    server: RunningServer
    password: Path
    nodes: list[NodeProcess]

    def administrator(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.server.directory / "r.sock"))

    def refused(self) -> list[object]:
        with self.administrator() as client:
            log: list[object] = client.acl_log()
            return log


def set_user(server: RunningServer, *rules: str) -> None:
    with redis.Redis(unix_socket_path=str(server.directory / "r.sock")) as client:
        client.execute_command("ACL", "SETUSER", "node", *rules)


@contextmanager
def reachable(kind: str, directory: Path) -> Iterator[tuple[RunningServer, dict[str, str]]]:
    """Redis by TLS, which Debian's is built with, with a certificate of the node's; Valkey by its socket."""
    (directory / "redis").mkdir()
    if kind == "valkey":
        with running_server("valkey", directory / "redis", "--appendonly", "yes") as server:
            yield server, {"MOORLINE_REDIS__URL": server.url}
        return
    certificate = make_certificate(directory)
    with tls_server_for(directory / "redis", certificate, "--tls-auth-clients", "yes") as (server, port):
        url = directory / "url"
        url.write_text(f"rediss://127.0.0.1:{port}/0\n")
        yield (
            server,
            {
                "MOORLINE_REDIS__URL_FILE": str(url),
                "MOORLINE_REDIS__CA_FILE": str(certificate.file),
                "MOORLINE_REDIS__CERTIFICATE": str(certificate.file),
                "MOORLINE_REDIS__KEY": str(certificate.key),
                "MOORLINE_REDIS__SERVER_NAME": "localhost",
            },
        )


@pytest.fixture(params=KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    password = tmp_path / "password"
    password.write_text(OLD + "\n")
    with reachable(request.param, tmp_path) as (server, reach):
        set_user(server, "reset", "on", f">{OLD}", *access_list("mq:").split())
        environment = ENVIRONMENT | reach
        environment |= {"MOORLINE_REDIS__USERNAME": "node", "MOORLINE_REDIS__PASSWORD_FILE": str(password)}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        with (
            running_node(tmp_path / "a", "--node-name", "a", environment=environment) as one,
            running_node(tmp_path / "b", "--node-name", "b", environment=environment) as two,
        ):
            yield Guarded(server, password, [one, two])


def everything(first: NodeProcess, second: NodeProcess) -> None:
    """Whatever a client can ask for, over both nodes."""
    with connected(first.port, "publisher") as publisher:
        _queue(first, second, publisher)
        _retained_and_delayed(second, publisher)
        _wills(first, second, publisher)
        _groups(first, second, publisher)


def _queue(first: NodeProcess, second: NodeProcess, publisher: WireClient) -> None:
    subscriber = connected(second.port, "subscriber", properties=HOUR)
    subscriber.subscribe("queue/#", qos=2)
    for qos in (0, 1, 2):
        publisher.publish("queue/a", b"%d" % qos, qos)
    assert sorted(subscriber.payloads(3)) == [b"0", b"1", b"2"]
    subscriber.disconnect()
    for qos in (1, 2):
        publisher.publish("queue/a", b"away %d" % qos, qos)
    with connected(first.port, "subscriber", clean_start=False, properties=HOUR) as back:
        assert back.payloads(2) == [b"away 1", b"away 2"]
        back.unsubscribe("queue/#")
        with connected(second.port, "subscriber", clean_start=False, properties=HOUR):
            back.wait_closed()
    with connected(first.port, "subscriber"):  # ends the session
        pass


def _retained_and_delayed(second: NodeProcess, publisher: WireClient) -> None:
    publisher.publish("kept/a", b"kept", 1, retain=True)
    with connected(second.port, "late") as late:
        late.subscribe("$exclusive/delayed/a", qos=1)
        assert publisher.publish("$delayed/1/delayed/a", b"later", 1) == 0
        late.subscribe("kept/#", qos=1)
        assert sorted(late.payloads(2)) == [b"kept", b"later"]
    publisher.publish("kept/a", b"", 1, retain=True)


def _wills(first: NodeProcess, second: NodeProcess, publisher: WireClient) -> None:
    publisher.subscribe("will/#", qos=1)
    at_once = Will("will/a", b"at once", 1, False, None)
    later = Will("will/b", b"later", 1, True, Properties(will_delay_interval=1))
    for node, name, will in ((second, "one", at_once), (first, "two", later)):
        connected(node.port, name, will=will, properties=HOUR).close()
    assert sorted(publisher.payloads(2)) == [b"at once", b"later"]


def _groups(first: NodeProcess, second: NodeProcess, publisher: WireClient) -> None:
    with (
        connected(first.port, "member-1", properties=HOUR) as one,
        connected(second.port, "member-2", properties=HOUR) as two,
    ):
        for member in (one, two):
            member.subscribe("$share/g/shared/#", qos=1)
        for number in range(4):
            publisher.publish("shared/a", b"%d" % number, 1)
        got: list[bytes] = []
        deadline = time.monotonic() + SECONDS
        while len(got) < 4:
            assert time.monotonic() < deadline, got
            for member in (one, two):
                packet = member.poll(0.05)
                if packet is not None:
                    member.received.insert(0, packet)
                    got.append(member.message().payload)
        assert sorted(got) == [b"0", b"1", b"2", b"3"]


def test_nodes_with_just_these_rights(guarded: Guarded) -> None:
    first, second = guarded.nodes
    everything(first, second)
    assert guarded.refused() == []
    assert {"a", "b"} <= {word for word in first.get("/api/v1/nodes").text.split('"') if len(word) == 1}
    assert first.post("/api/v1/rebalance", {"dry_run": True}).status == 200

    # Another password: into the file, to Redis, and then all connections are made anew.
    guarded.password.write_text(NEW + "\n")
    set_user(guarded.server, f">{NEW}", f"<{OLD}")
    with guarded.administrator() as administrator:
        administrator.execute_command("CLIENT", "KILL", "USER", "node")
    with connected(second.port, "after") as client:
        client.subscribe("after/#", qos=1)
        with connected(first.port, "before") as other:
            assert other.publish("after/a", b"x", 1) == 0
        assert client.payloads(1) == [b"x"]
    assert first.post("/api/v1/nodes/b/drain", {}).status == 202
    assert second.wait() == 0
    assert guarded.refused() == []
    for node in guarded.nodes:
        assert "backward compatibility" not in node.log.read_text()  # of redis-py
        assert not any(secret in node.log.read_text() for secret in (OLD, NEW))


def test_a_right_that_is_missing_prevents_the_start(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(OLD)
    with reachable("valkey", tmp_path) as (server, reach):
        set_user(server, "reset", "on", f">{OLD}", *access_list("mq:").split(), "-xadd", "resetchannels")
        environment = reach | {
            "MOORLINE_REDIS__USERNAME": "node",
            "MOORLINE_REDIS__PASSWORD_FILE": str(password),
        }
        code, text = refused_start(tmp_path / "node", environment=environment)
        assert code == 2
        assert "this user of Redis may not do all that a node does; it lacks +xadd, channels &mq:*" in text
        password.write_text(NEW)
        code, text = refused_start(tmp_path / "node", environment=environment)
        assert (code, "WRONGPASS" in text, NEW in text) == (2, True, False)
