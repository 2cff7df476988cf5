"""What a person on call is told: facts in, sentences out. One row for each rule, and their order."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from broker.admin.explain.facts import Facts, Owner, describe_event
from broker.admin.explain.shown import shown_client
from broker.admin.explain.verdict import findings
from broker.admin.explain.wording import counted, duration, number, size
from broker.client import BanFacts, ConnectionFacts, FlowFacts, NodeFacts
from cluster.explainer import FoundLetters
from cluster.store.events import StoredEvent
from cluster.store.explained import (
    Letter,
    QueuedEntry,
    Receiving,
    StoredSession,
    StoredWillFacts,
    Subscribed,
)
from cluster.store.records import Options

NOW_MS = 1_700_000_100_000  # 2023-11-14T22:15:00Z
PAGE = Path(__file__).parents[2] / "docs" / "explain.md"

SUBSCRIBED = Subscribed("home/#", Options(1, False, False, 0, 0), is_replaying=False)
ENTRY = QueuedEntry(1, 9, 1, False, "home/lamp", 4, 0)
SESSION = StoredSession(
    epoch=3,
    owner="alpha.1",
    is_direct=False,
    protocol=5,
    expiry_seconds=7200,
    deadline_ms=None,
    has_will_delay=False,
    gen=1,
    n=9,
    hi=9,
    subscription_count=1,
    subscriptions=[SUBSCRIBED],
    queued=0,
    queued_bytes=0,
    head=[],
    tail=[],
    will=None,
    releasing=[],
    receiving_count=0,
    receiving=[],
)
AWAY = replace(SESSION, owner=None, deadline_ms=NOW_MS + 7_150_000, queued=12_000, head=[ENTRY])
DIRECT = replace(SESSION, is_direct=True, subscription_count=0, subscriptions=[])
FLOW = FlowFacts(window=100, free=100)
CONNECTION = ConnectionFacts(
    "192.0.2.7:5000", is_accepted=True, connected_seconds=60, is_persistent=True, protocol=5, flow=FLOW
)
NODE = NodeFacts(connection=CONNECTION, queue_limit=15_000)
OWNER = Owner("alpha", "alpha.1", is_member=True, unseen_seconds=0)
WELL = Facts("lamp-7", NOW_MS, session=SESSION, owner=OWNER, node=NODE)
GONE = Facts("lamp-7", NOW_MS, session=AWAY, node=NodeFacts(queue_limit=15_000))
NOBODY = Facts("lamp-7", NOW_MS, node=NodeFacts())
ENDED = StoredEvent(NOW_MS - 50_000, "disconnected", {"reason": "keep_alive_timeout: nothing for 90 s"})


def connected(**changes: object) -> Facts:
    return replace(WELL, node=replace(NODE, connection=replace(CONNECTION, **changes)))  # type: ignore[arg-type]  # by name


def flowing(**changes: object) -> Facts:
    return connected(flow=replace(FLOW, **changes))  # type: ignore[arg-type]  # by name


def having(facts: Facts, **changes: object) -> Facts:
    assert facts.session is not None
    return replace(facts, session=replace(facts.session, **changes))  # type: ignore[arg-type]  # by name


def lost(reason: str, count: int, ago_ms: int = 1000) -> list[Letter]:
    return [Letter(NOW_MS - ago_ms, "home/lamp", reason)] * count


CASES: Sequence[tuple[str, Facts, str]] = (
    (
        "well",
        WELL,
        "Connected since 2023-11-14T22:14:00Z, and nothing holds it up: 0 in its queue, 0 in flight.",
    ),
    (
        "window_full",
        flowing(free=0, in_flight=100, oldest_seconds=43.4, awaited="PUBACK"),
        "The window is full: 100 messages are sent and not acknowledged, the oldest for at least 43 s: the"
        " client does not answer PUBACK.",
    ),
    (
        "window_full",
        flowing(free=0, window=1),
        "The window is full: 1 message is sent and not acknowledged. ",
    ),
    (
        "acknowledges_late",
        flowing(free=98, in_flight=1, releasing=1, oldest_seconds=200, awaited="PUBCOMP"),
        "2 messages are in flight, the oldest for at least 3 min: the client does not answer PUBCOMP.",
    ),
    ("identifier_in_use", flowing(waits_for_packet_id=7), "The next message needs Packet Identifier 7,"),
    ("catching_up", having(flowing(is_behind=True), queued=5), "It is catching up: 5 messages in its queue"),
    ("backlog", flowing(waiting=3, waiting_limit=1000), "3 messages wait in the node's memory"),
    ("backlog", flowing(waiting=900, waiting_limit=1000), "of at most 1,000 (session.direct_queue_limit)"),
    ("backlog", flowing(shared_waiting=1), "1 message waits in the node's memory"),
    (
        "does_not_read",
        connected(blocked_seconds=12.0, unsent_bytes=1_572_864),
        "The client does not take what it is sent: 1.5 MiB wait in its connection, and it has taken nothing"
        " for 12 s.",
    ),
    (
        "reading_paused",
        connected(reading_paused=["rate"], limit="limits.messages_per_second", paused_seconds=5.0),
        "Nothing is read from its connection (for at least 5 s): it sends more than"
        " limits.messages_per_second allows.",
    ),
    (
        "reading_paused",
        connected(reading_paused=["not_stored", "memory"], unanswered=3, unanswered_bytes=2048),
        "3 of its messages (2.0 KiB) are not stored yet. Look at Redis and at its node; the memory of",
    ),
    ("reading_paused", connected(reading_paused=["authorization"]), "Look at who answers that (HTTP, SQL)"),
    ("reading_paused", connected(reading_paused=["does_not_read"]), "it does not read what it is sent"),
    ("reading_paused", connected(reading_paused=["a_newer_reason"]), "its connection: a_newer_reason."),
    (
        "connecting",
        connected(is_accepted=False, flow=None),
        "Its CONNECT from 192.0.2.7:5000 is not answered",
    ),
    (
        "fought_over",
        replace(WELL, node=replace(NODE, takeovers=40, takeovers_limit=30)),
        "Its connection was taken over 40 times within the last minute: several devices use this Client"
        " Identifier, or one connects again before it has closed. Each further CONNECT waits, up to 30 s.",
    ),
    ("fought_over", replace(WELL, node=replace(NODE, takeovers=1)), "was taken over 1 time within the last"),
    (
        "away",
        replace(GONE, events=[ENDED]),
        "The client is away since 2023-11-14T22:14:10Z (50 s), keep_alive_timeout: nothing for 90 s; 12,000"
        " messages wait for it, the oldest for more than 50 s.",
    ),
    ("away", having(GONE, hi=8, queued=1), "(50 s); 1 message waits for it, the oldest for up to 50 s."),
    ("away", having(GONE, deadline_ms=None, queued=0), "The client is away; no message waits for it."),
    (
        "away",
        having(replace(GONE, events=[ENDED]), deadline_ms=None, queued=0),
        "The client is away since 2023-11-14T22:14:10Z (50 s), keep",
    ),
    (
        "queue_full",
        GONE,
        "Its queue is 80 % full: 12,000 of 15,000 (session.queue_limit). Beyond that the oldest ones that"
        " were not sent will be dropped",
    ),
    (
        "queue_full",
        having(replace(GONE, node=NodeFacts(queue_limit=15_000, drops_oldest=False)), queued=15_000),
        "Its queue is 100 % full: 15,000 of 15,000 (session.queue_limit). Beyond that new ones are dropped",
    ),
    (
        "queue_full",
        having(
            replace(GONE, node=NodeFacts(queue_limit=15_000, queue_bytes=100_000)),
            queued=13_000,
            queued_bytes=90_500,
        ),
        "Its queue is 90 % full: 90,500 of 100,000 bytes (session.queue_bytes). Beyond that the oldest ones",
    ),
    (
        "drops",
        replace(WELL, letters=[*lost("drop_oldest", 3), *lost("expired", 1), *lost("drop_new", 9, 700_000)]),
        "It has lost messages within the last 10 min: at least 3 drop_oldest (its queue was full: the oldest"
        " went), 1 expired (Message Expiry Interval was over).",
    ),
    ("no_subscriptions", having(WELL, subscription_count=0), "It subscribes to nothing, so nothing is sent"),
    (
        "no_subscriptions",
        replace(connected(is_persistent=False), session=DIRECT),
        "It subscribes to nothing, so nothing is sent to it",
    ),
    (
        "replaying",
        having(WELL, subscriptions=[replace(SUBSCRIBED, is_replaying=True)]),
        "Retained messages for 1 subscription are still to be put into its queue",
    ),
    (
        "exchange_open",
        having(WELL, receiving_count=2, receiving=[Receiving(7, True, NOW_MS - 90_000, b"t")]),
        "2 QoS 2 messages that it has sent are not finished, the oldest (Packet Identifier 7) for 90 s: it"
        " has not sent PUBREL.",
    ),
    (
        "exchange_open",
        having(WELL, receiving_count=1, receiving=[Receiving(7, False, NOW_MS - 90_000, b"t")]),
        "1 QoS 2 message that it has sent is not finished, the oldest (Packet Identifier 7) for 90 s: it has"
        " to send the message again.",
    ),
    (
        "will_due",
        having(GONE, will=StoredWillFacts("home/offline", 1, False, 3, NOW_MS + 20_000)),
        "Its Will Message to home/offline is published in 20 s, unless it connects before that.",
    ),
    (
        "session_ends",
        having(GONE, deadline_ms=NOW_MS + 600_000),
        "Its session ends at 2023-11-14T22:25:00Z, in 10 min, with its subscriptions and its queue",
    ),
    (
        "redis_away",
        Facts(
            "c", NOW_MS, redis_trouble="no answer within 1.2 s", node=replace(NODE, redis_away_seconds=9.0)
        ),
        "Redis does not answer since 2023-11-14T22:14:51Z (9 s) (no answer within 1.2 s): nothing at QoS 1"
        " and 2 is stored",
    ),
    ("redis_away", Facts("c", NOW_MS, redis_trouble="refused"), "Redis does not answer (refused): nothing"),
    (
        "banned",
        replace(NOBODY, node=NodeFacts(ban=BanFacts("client lamp-7", "noise", "ops", NOW_MS + 1000))),
        "It is banned until 2023-11-14T22:15:01Z (client lamp-7; noise; by ops)",
    ),
    (
        "banned",
        replace(NOBODY, node=NodeFacts(ban=BanFacts("user u", "", "", 0))),
        "It is banned for ever (user u; no reason given; by ?): it is refused with 0x8A. To let it in again:"
        " `moorline ctl bans remove user u`.",
    ),
    ("unknown", NOBODY, "No session and no connection; nothing is known of it"),
    (
        "unknown",
        replace(NOBODY, events=[ENDED]),
        "No session and no connection; it was last seen 2023-11-14T22:14:10Z (disconnected:"
        " keep_alive_timeout: nothing for 90 s).",
    ),
    (
        "refused",
        replace(GONE, events=[StoredEvent(NOW_MS, "refused", {"reason": "bad password", "address": "::1"})]),
        "Its last CONNECT, at 2023-11-14T22:15:00Z from ::1, was refused: bad password.",
    ),
    (
        "owner_dead",
        replace(WELL, node=None, owner=replace(OWNER, unseen_seconds=5)),
        "Its node alpha is dead (alpha.1): the others give its sessions back within some seconds",
    ),
    ("owner_dead", replace(WELL, node=None, owner=replace(OWNER, is_member=False)), "Its node alpha is dead"),
    (
        "owner_silent",
        replace(WELL, node=None, owner=replace(OWNER, unseen_seconds=3, silence="no answer within 1 s")),
        "Its node alpha gives no life sign for 3 s: unless it goes on it is dead to the others in about 2 s",
    ),
    (
        "owner_silent",
        replace(WELL, node=None, owner=replace(OWNER, silence="busy")),
        "Its node alpha lives, and did not answer (busy)",
    ),
    (
        "node_in_doubt",
        replace(WELL, node=replace(NODE, is_in_doubt=True)),
        "Its node was stopped for a moment",
    ),
    ("unclear", replace(WELL, node=NodeFacts()), "A node has its session and no connection of it"),
)


@pytest.mark.parametrize(
    ("code", "facts", "text"), CASES, ids=lambda value: value if type(value) is str else ""
)
def test_what_is_said(code: str, facts: Facts, text: str) -> None:
    texts = [finding.text for finding in findings(facts) if finding.code == code]
    assert len(texts) == 1, [finding.code for finding in findings(facts)]
    assert text in texts[0]


QUIET = (
    flowing(free=1, in_flight=99, oldest_seconds=5.0, awaited="PUBACK"),
    replace(WELL, letters=lost("expired", 1, 700_000)),
    having(WELL, receiving_count=1, receiving=[Receiving(7, True, NOW_MS - 5000, b"t")]),
    having(WELL, will=StoredWillFacts("t", 0, False, 0, None)),
    having(WELL, queued=11_999),
    replace(WELL, events=[StoredEvent(2, "connected", {}), StoredEvent(1, "refused", {"reason": "r"})]),
    replace(WELL, owner=replace(OWNER, unseen_seconds=4)),
    replace(connected(is_persistent=False, subscription_count=2), session=DIRECT),
)


@pytest.mark.parametrize("facts", QUIET)
def test_what_is_as_it_should_be_is_not_said(facts: Facts) -> None:
    assert [finding.code for finding in findings(facts)] == ["well"]


def test_the_most_important_comes_first() -> None:
    worst = replace(
        having(flowing(free=0, in_flight=100), queued=15_000),
        redis_trouble="away",
        letters=lost("drop_oldest", 2),
    )
    assert [finding.code for finding in findings(worst)] == [
        "redis_away", "window_full", "queue_full", "drops",
    ]  # fmt: skip
    banned = replace(GONE, node=NodeFacts(ban=BanFacts("client c", "", "", 0), queue_limit=15_000))
    assert [finding.code for finding in findings(banned)] == ["banned", "away", "queue_full"]


def test_each_code_and_each_remedy_is_in_the_manual() -> None:
    page = PAGE.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert documented == {code for code, _, _ in CASES}


def test_the_answer_in_json() -> None:
    facts = replace(
        having(GONE, receiving_count=1, receiving=[Receiving(7, True, NOW_MS, b"\x01\x02")], tail=[ENTRY]),
        events=[ENDED],
        letters=[Letter(NOW_MS, "b", "expired"), Letter(NOW_MS - 1000, "a", "expired")],
    )
    shown = shown_client(facts, FoundLetters(list(facts.letters), 2, is_all=True))
    assert shown["blocked_by"] == ["away"]
    assert shown["connection"] is None
    session, queue, drops, events = shown["session"], shown["queue"], shown["drops"], shown["events"]
    assert isinstance(session, dict)
    assert session["state"] == "away"
    assert session["away_since"] == "2023-11-14T22:14:10Z"
    assert session["receiving"] == [
        {"packet_id": 7, "phase": "waits for PUBREL", "since": "2023-11-14T22:15:00Z", "token": "0102"}
    ]
    assert isinstance(queue, dict)
    entry = {"n": 9, "topic": "home/lamp", "qos": 1, "retain": False, "bytes": 4, "expires_at": None}
    assert (queue["length"], queue["limit"], queue["head"], queue["tail"]) == (
        12_000,
        15_000,
        [entry],
        [entry],
    )
    assert drops == [
        {
            "reason": "expired",
            "means": "Message Expiry Interval was over",
            "count": 2,
            "first": "2023-11-14T22:14:59Z",
            "last": "2023-11-14T22:15:00Z",
            "topics": ["b", "a"],
        }
    ]
    assert events == [{"at": "2023-11-14T22:14:10Z", "kind": "disconnected", **ENDED.fields}]


def test_a_connection_in_json() -> None:
    shown = shown_client(flowing(free=60, in_flight=40), FoundLetters([], 0, is_all=True))
    connection = shown["connection"]
    assert isinstance(connection, dict)
    assert (connection["connected_at"], connection["protocol"]) == ("2023-11-14T22:14:00Z", "5.0")
    assert connection["flow"]["in_flight"] == 40
    nothing = shown_client(NOBODY, FoundLetters([], 0, is_all=True))
    assert (nothing["session"], nothing["connection"], nothing["queue"]) == (None, None, None)


def test_numbers_as_people_read_them() -> None:
    assert [duration(each) for each in (0.9, 119.9, 120, 7199, 7200, 172_799, 172_800)] == [
        "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days",
    ]  # fmt: skip
    assert (number(1234567), counted(1, "message"), counted(0, "message")) == (
        "1,234,567",
        "1 message",
        "0 messages",
    )
    assert [size(each) for each in (5, 1536, 3 << 20, 5 << 30)] == ["5 B", "1.5 KiB", "3.0 MiB", "5.0 GiB"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (StoredEvent(0, "taken_over", {}), "taken over"),
        (StoredEvent(0, "connected", {"address": "::1"}), "connected: ::1"),
        (StoredEvent(0, "subscribed", {"filters": ["a (QoS 1)", "b"]}), "subscribed: a (QoS 1), b"),
    ],
)
def test_events_in_words(event: StoredEvent, text: str) -> None:
    assert describe_event(event) == text
