"""Exports and imports as an operator makes them: what is in the file, what becomes of it, what is refused."""

import gzip
import json
import threading
from pathlib import Path

import pytest

from broker.mqtt import Disconnect, Properties, ReasonCode, Will
from cluster.exporting import PAGE_BYTES
from tests.moving.brokers import Broker, Json
from tests.node.wire import HOUR, WireClient, connected

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$mEBJQmEvOCPSJQ6OPkp7LZoDHPFtwEdz1J0QPMkpdMg"


def away(broker: Broker, client_id: str, *filters: str) -> None:
    """A session that nobody has."""
    with connected(broker.port, client_id, properties=HOUR) as client:
        for filter in filters:
            client.subscribe(filter, qos=1)
        client.disconnect()


def published(
    broker: Broker, topic: str, *payloads: bytes, retain: bool = False, properties: Properties | None = None
) -> None:
    with connected(broker.port, f"publisher-of-{topic}") as client:
        for payload in payloads:
            client.publish(topic, payload, qos=1, retain=retain, properties=properties)


def of(records: list[Json], kind: str) -> list[Json]:
    return [record for record in records if record["kind"] == kind]


def test_a_file_can_be_read_by_people(source: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    away(source, "read-é", "read/+")
    properties = Properties(message_expiry_interval=100, content_type="text")
    published(source, "read/x", b"hello", properties=properties)
    entries, session = source.export(file, "--sessions", "read-", "--no-retained")
    (entry,) = entries["entries"]
    assert (entries["client_id"], entries["first"]) == ("read-é", True)
    assert (entry["n"], entry["qos"], entry["topic"], entry["payload"]) == (1, 1, "read/x", "aGVsbG8=")
    assert 90_000 < entry["expires_ms"] <= 100_000
    assert (session["client_id"], session["n"], session["hi"]) == ("read-é", 1, 0)
    assert 3_590_000 < session["lives_ms"] <= 3_600_000
    assert session["subscriptions"] == [{"filter": "read/+", "qos": 1}]
    head, *_, end = file.read_text().splitlines()
    assert json.loads(head)["format"] == 1
    assert json.loads(end)["end"] == 3
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_asked_for(source: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for client_id in ("some-a", "some-b", "none-a"):
        away(source, client_id, f"{client_id}/x")
    published(source, "some-a/x", b"1")
    published(source, "some/r", b"1", retain=True)
    published(source, "none/r", b"1", retain=True)
    records = source.export(file, "--sessions", "some-", "--retained", "some/#", "--retained", "also/+")
    assert sorted(each["client_id"] for each in of(records, "session")) == ["some-a", "some-b"]
    assert [each["topic"] for each in of(records, "retained")] == ["some/r"]
    assert len(of(records, "entries")) == 1
    records = source.export(file, "--sessions", "some-", "--no-queues", "--no-retained")
    assert {each["kind"] for each in records} == {"session"}
    records = source.export(file, "--no-sessions")
    assert {each["kind"] for each in records} == {"retained"}
    assert {"some/r", "none/r"} <= {each["topic"] for each in records}
    assert not any(each["topic"].startswith("$SYS/") for each in records)


def test_users_rules_and_bans_if_they_are_asked_for(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    passwords = tmp_path / "passwords"
    passwords.write_text(f"ann:{HASH}\n")
    rules = tmp_path / "rules.toml"
    rules.write_text('rules = [{effect = "allow", filters = ["a/#"]}]')
    for command in (
        ("users", "import", str(passwords)),
        ("rules", "set", str(rules)),
        ("bans", "add", "client", "noisy-*", "--for", "1h"),
    ):
        assert source.ctl(*command).exit_code == 0
    options = ("--with", "users", "--with", "rules", "--with", "bans", "--no-sessions", "--no-retained")
    user, text, ban = source.export(file, *options)
    assert (user["name"], user["hash"], text["text"]) == ("ann", HASH, rules.read_text())
    assert (ban["target"], 3_500_000 < ban["lives_ms"] <= 3_600_000) == ("client:noisy-*", True)
    for outcome in ("made", "there"):
        told = target.import_(file)
        assert [told[each][outcome] for each in ("users", "rules", "bans")] == [1, 1, 1]
    shown = json.loads(target.ctl("users", "show", "ann", "--json").stdout)
    assert (shown["name"], shown["enabled"]) == ("ann", True)
    assert target.ctl("rules", "show").stdout.strip() == rules.read_text()
    assert "noisy-*" in target.ctl("bans", "list").stdout
    assert source.export(file, "--sessions", "nobody", "--no-retained") == []


def test_all_of_a_large_export_arrives(source: Broker, target: Broker, tmp_path: Path) -> None:
    """Of more than a page, and more than a batch."""
    file = tmp_path / "file.gz"
    ids = [f"large-{number}" for number in range(20)]
    for client_id in ids:
        away(source, client_id, "large/x")
    payloads = [b"%d" % number + bytes(3000) for number in range(100)]
    published(source, "large/x", *payloads)
    for number in range(40):
        published(source, f"large/r/{number}", bytes(10), retain=True)
    options = ("--sessions", "large-", "--retained", "large/r/+")
    result = source.ctl("export", str(file), *options)
    assert result.exit_code == 0, result.output
    lines = gzip.decompress(file.read_bytes())
    assert len(lines) > 5 * PAGE_BYTES
    told = target.import_(file)
    assert told["sessions"]["made"] == 20
    assert told["messages"] == {"made": 2000, "dropped": 0}
    assert told["retained"]["made"] == 40
    for client_id in (ids[0], ids[-1]):
        with connected(target.port, client_id, clean_start=False, properties=HOUR) as client:
            assert client.payloads(100) == payloads
            client.disconnect()


def test_the_same_again_changes_nothing(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    away(source, "again-a", "again/x")
    published(source, "again/x", b"1")
    published(source, "again/r", b"1", retain=True)
    source.export(file, "--sessions", "again-", "--retained", "again/#")
    target.import_(file)
    published(target, "again/x", b"2")
    published(target, "again/r", b"2", retain=True)
    for _ in range(2):
        told = target.import_(file)
        assert (told["sessions"]["there"], told["sessions"]["made"]) == (1, 0)
        assert told["retained"] == {"made": 0, "there": 1, "refused": 0}
    with connected(target.port, "again-a", clean_start=False, properties=HOUR) as client:
        assert client.payloads(2) == [b"1", b"2"]
        client.subscribe("again/r", qos=1)
        assert client.message().payload == b"2"


def test_a_client_that_is_connected_there(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    away(source, "there-a", "there/x")
    published(source, "there/x", b"old")
    source.export(file, "--sessions", "there-", "--no-retained")
    with connected(target.port, "there-a", properties=HOUR) as client:
        told = target.import_(file)
        assert told["sessions"]["connected"] == 1
        client.ping()
        told = target.import_(file, "--replace", "--dry-run")
        assert (told["sessions"]["replaced"], told["dry_run"]) == (1, True)
        client.ping()
        told = target.import_(file, "--replace")
        assert told["sessions"]["replaced"] == 1
        assert isinstance(client.wait_closed()[-1], Disconnect)
    with connected(target.port, "there-a", clean_start=False, properties=HOUR) as client:
        assert client.payloads(1) == [b"old"]


def test_a_dry_run_writes_nothing(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    away(source, "dry-a", "dry/x")
    published(source, "dry/x", b"1")
    published(source, "dry/r", b"1", retain=True)
    source.export(file, "--sessions", "dry-", "--retained", "dry/#")
    told = target.import_(file, "--dry-run")
    assert (told["sessions"]["made"], told["messages"]["made"], told["retained"]["made"]) == (1, 1, 1)
    assert target.import_(file)["sessions"]["made"] == 1
    told = target.import_(file, "--dry-run")
    assert (told["sessions"]["there"], told["retained"]["there"]) == (1, 1)


def test_a_will_is_published_where_its_session_is(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    will = Will("will/a", b"gone", 1, False, Properties(will_delay_interval=2))
    with connected(target.port, "will-watcher") as watcher:
        watcher.subscribe("will/#", qos=1)
        with connected(source.port, "will-a", will=will, properties=HOUR) as client:
            client.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
        source.export(file, "--sessions", "will-a", "--no-retained")
        target.import_(file)
        watcher.timeout_seconds = 10.0
        assert watcher.message().payload == b"gone"


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_a_file_that_is_cut_off_is_not_begun(
    source: Broker, target: Broker, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    away(source, f"cut-{name}", "cut/x")
    published(source, "cut/x", b"1")
    assert source.ctl("export", str(file), "--sessions", "cut-", "--no-retained").exit_code == 0
    whole = file.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:length])
        result = target.ctl("import", str(file))
        assert result.exit_code == 1
        assert "nothing was imported" in result.stderr
    file.write_bytes(whole)
    assert target.import_(file)["sessions"]["made"] == 1


def test_a_file_that_is_none(target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    lines = [
        '{"moorline":"9","format":1}',
        '{"kind":"retained","topic":"t","payload":"eA=="}',
        '{"end":2,"sha256":"x"}',
    ]
    for number, other, reason in (
        (0, '{"moorline":"9","format":2}', "its format is 2"),
        (0, "{}", "no export"),
        (1, "[]", "no records"),
        (1, "x", "no JSON"),
        (2, lines[2], "checksum"),
        (2, f"{lines[2]}\n{lines[2]}", "behind its end"),
    ):
        file.write_text("\n".join([*lines[:number], other, *lines[number + 1 :], ""]))
        result = target.ctl("import", str(file))
        assert (result.exit_code, reason in result.stderr) == (1, True), result.output
    assert target.ctl("import", str(tmp_path / "missing")).exit_code == 1


def test_what_can_not_be_is_told(target: Broker) -> None:
    """By whoever has made the records: a file is checked by its sum only."""
    node = target.nodes[0]
    session = {"kind": "session", "client_id": "odd", "n": 0, "hi": 0, "expiry_seconds": 60}
    order = {"format": 1, "id": "0" * 16}
    for records, problem in (
        (
            [{**session, "subscriptions": [{"filter": "a/#/b"}]}],
            "client odd: a subscription has no valid filter",
        ),
        ([{**session, "subscriptions": [{"filter": f"f/{n}"} for n in range(1001)]}], "limit is 1000"),
        ([{**session, "client_id": "é" * 40_000}], "its name is too long"),
        ([{**session, "has_entries": True}], "its messages are gone"),
        ([{"kind": "retained", "topic": "a/+", "payload": "eA=="}], "no valid topic"),
        ([{"kind": "retained", "topic": "a", "payload": ""}], "it is empty"),
        (
            [{"kind": "entries", "client_id": "odd", "entries": [{"n": 1, "qos": 1, "topic": "#"}]}],
            "no valid topic",
        ),
    ):
        probe = node.post("/api/v1/import", {**order, "records": records})
        assert (probe.status, problem in probe.text) == (200, True), probe.text
    for body in (
        {**order, "format": 2, "records": []},
        {**order, "records": [{"kind": "other"}]},
        {**order, "records": [{"kind": "user", "name": "a"}]},
        {**order, "records": [{**session, "n": -1}]},
        {**order, "records": [{"kind": "retained", "topic": "a", "payload": "no base64!"}]},
        {**order, "records": [session] * 513},
        {**order, "id": "x", "records": []},
    ):
        assert node.post("/api/v1/import", body).status == 422
    for path in (
        "sessions?after=x",
        "sessions?after=W10=",
        "retained?after=WyJ4Il0=",
        "retained?filter=a/%23/b",
        "users?after=x",
        "users?after=WzFd",
        "bans?after=WyJ4Il0=",
    ):
        assert node.get(f"/api/v1/export/{path}").status == 422


def test_an_exclusive_subscription_stays_one(source: Broker, target: Broker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    away(source, "only-a", "$exclusive/only/x")
    source.export(file, "--sessions", "only-", "--no-retained")
    target.import_(file)
    with connected(target.port, "only-b") as other:
        assert other.subscribe("$exclusive/only/x", qos=1).reason_codes != [1]
    result = target.ctl("session", "delete", "only-a")
    assert result.exit_code == 0
    with connected(target.port, "only-b", properties=HOUR) as other:
        assert other.subscribe("$exclusive/only/x", qos=1).reason_codes == [1]
        result = target.ctl("import", str(file))
        assert (result.exit_code, "only-b has $exclusive/only/x" in result.stderr) == (1, True)


def test_under_traffic_each_file_has_whole_sessions(source: Broker, target: Broker, tmp_path: Path) -> None:
    """Clients go on while they are exported: what a file has is in order, without a gap behind what was
    done with."""
    stop = threading.Event()

    def publish(client: WireClient) -> None:
        number = 0
        while not stop.is_set():
            client.publish("busy/x", b"%d" % number, qos=2)
            number += 1

    with (
        connected(source.port, "busy-publisher", properties=HOUR) as publisher,
        connected(source.port, "busy-a", properties=HOUR) as client,
    ):
        client.subscribe("busy/x", qos=2)
        thread = threading.Thread(target=publish, args=(publisher,))
        thread.start()
        try:
            for _ in range(5):
                client.payloads(5)
                records = source.export(tmp_path / "file", "--sessions", "busy-a", "--no-retained")
                (session,) = of(records, "session")
                waiting = [entry["n"] for each in of(records, "entries") for entry in each["entries"]]
                released = session.get("released", [])
                known = sorted({*waiting, *released})
                assert known == list(range(session["n"] - len(known) + 1, session["n"] + 1))
                assert session["hi"] >= max(released, default=0)
        finally:
            stop.set()
            client.received.clear()
            thread.join()
    told = target.import_(tmp_path / "file")
    assert told["sessions"]["made"] == 1
