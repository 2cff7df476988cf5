"""What Redis tells a person of a client, a message, a topic; and the events that are kept of a client."""

from cluster.store import events, explained, keys, letters, queues, receive
from cluster.store.entry import pack_body, pack_head
from cluster.store.events import StoredEvent
from cluster.store.explained import Explained, QueuedEntry, StoredSession
from tests.store.caller import Caller

BUCKET = keys.bucket_of("c")


def looked_at(caller: Caller, client_id: str = "c") -> Explained:
    return explained.parse_explain(caller.ask(explained.explain(client_id)))


def session_of(caller: Caller) -> StoredSession:
    session = looked_at(caller).session
    assert session is not None
    return session


def test_of_nobody_there_is_nothing_but_the_time(caller: Caller) -> None:
    found = looked_at(caller)
    assert (found.session, found.events) == (None, [])
    assert abs(found.time_ms - caller.now_ms()) < 1000


def test_a_session_with_all_it_has(caller: Caller) -> None:
    claim = caller.claim(will=b"\x97\x01\xa4will\xa3bye\x05\xa0\xc0\xa1c", will_delay=30)
    caller.subscribe(claim, "a/#", "b")
    body = pack_body("a/t", b"payload", b"", 0)
    late = pack_body("a/late", b"", b"", 9_999_999_999_999)
    entries = []
    for body_at in (0, 0, 0, 1):
        entries += [False, pack_head(1 + body_at, body_at == 1, ()), body_at, False, 0]
    caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, 1 << 40), [body, late])
    caller.ask(queues.page(BUCKET, "c", claim.epoch, 0, 2))
    caller.ask(queues.release(BUCKET, "c", claim.epoch, [claim.gen, 1]))
    caller.ask(receive.receive(BUCKET, "c", claim.epoch, [7, b"token", 8, b"other"], 10))
    caller.ask(receive.routed(BUCKET, "c", claim.epoch, [8]))
    session = session_of(caller)
    assert (session.owner, session.epoch, session.protocol, session.expiry_seconds) == (
        "node-1", claim.epoch, 5, 3600,
    )  # fmt: skip
    assert (session.is_direct, session.deadline_ms, session.n, session.hi) == (False, None, 4, 10)
    assert session.subscription_count == 2
    assert {each.filter for each in session.subscriptions} == {"a/#", "b"}
    assert all(each.options is not None and each.options.qos == 1 for each in session.subscriptions)
    assert session.queued == 3
    assert session.head[0] == QueuedEntry(claim.gen, 2, 1, False, "a/t", 7, 0)
    assert session.tail[0] == QueuedEntry(claim.gen, 4, 2, True, "a/late", 0, 9_999_999_999_999)
    assert [each.n for each in session.tail] == [4, 3, 2]
    assert session.releasing == [1]
    assert session.receiving_count == 2
    assert {(each.packet_id, each.is_routed, each.token) for each in session.receiving} == {
        (7, False, b"token"),
        (8, True, b"other"),
    }
    assert session.will is not None
    assert (session.will.topic, session.will.qos, session.will.retain, session.will.payload_bytes) == (
        "will", 1, True, 3,
    )  # fmt: skip
    assert session.will.due_ms is None
    caller.detach(claim, sent=2)
    session = session_of(caller)
    assert session.owner is None
    assert session.deadline_ms is not None
    assert session.will is not None
    assert session.will.due_ms is not None
    assert session.subscription_count == 2


def test_only_some_of_many_subscriptions(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, *(f"filter/{i}" for i in range(1000)))
    session = session_of(caller)
    assert session.subscription_count == 1000
    assert len(session.subscriptions) == explained.SUBSCRIPTIONS


def test_damaged_options_are_told_as_such(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "a", options=b"\x93\x02\x01\x00")
    (subscribed,) = session_of(caller).subscriptions
    assert subscribed.options is None


def test_large_entries_end_the_list(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "a")
    entries = [False, pack_head(1, False, ()), 0, False, 0] * 3
    body = pack_body("a", bytes(300_000), b"", 0)
    caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, 1 << 40), [body])
    session = session_of(caller)
    assert [[each.n for each in end] for end in (session.head, session.tail)] == [[1], [3]]


def test_a_direct_session(caller: Caller) -> None:
    caller.claim(expiry=0)
    session = session_of(caller)
    assert session.is_direct
    assert (session.owner, session.subscription_count, session.queued) == ("node-1", 0, 0)


def test_letters_of_one_client_page_by_page(caller: Caller) -> None:
    others = [letters.letter("c2", f"t{i}", "expired") for i in range(40)]
    other_bucket = keys.bucket_of("c2")
    for request in others:
        request[1] = BUCKET  # another client of the same bucket
    assert other_bucket >= 0
    for round in range(20):
        caller.call([letters.letter("c", f"mine/{round}", "drop_oldest"), *others])
    found = []
    before = None
    looked = []
    while True:
        page = explained.parse_letters(caller.ask(explained.explain_letters("c", before)))
        found += [letter.topic for letter in page.letters]
        looked.append(page.looked_at)
        before = page.before
        if before is None:
            break
    assert found == [f"mine/{round}" for round in range(19, -1, -1)]
    assert sum(looked) == 20 * 41
    assert max(looked) == explained.LETTERS_AT_A_TIME


def test_letters_of_nobody(caller: Caller) -> None:
    page = explained.parse_letters(caller.ask(explained.explain_letters("c", None)))
    assert (page.before, page.looked_at, page.letters) == (None, 0, [])


def test_where_an_entry_is(caller: Caller) -> None:
    assert explained.parse_place(caller.ask(explained.explain_entry("c", 1))) is None
    claim = caller.claim()
    caller.subscribe(claim, "t")
    entries = [False, pack_head(2, False, ()), 0, False, 0] * 3
    caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, 1 << 40), [pack_body("t", b"x", b"", 0)])
    caller.ask(queues.ack(BUCKET, "c", [claim.gen, 1]))
    caller.ask(queues.release(BUCKET, "c", claim.epoch, [claim.gen, 2]))
    places = [explained.parse_place(caller.ask(explained.explain_entry("c", n))) for n in range(1, 5)]
    assert all(place is not None for place in places)
    told = [(place.is_released, place.entry is not None, place.n, place.head) for place in places if place]
    assert told == [(False, False, 3, 3), (True, False, 3, 3), (False, True, 3, 3), (False, False, 3, 3)]


def test_who_has_a_message(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "t")
    entries = [False, pack_head(2, False, ()), 0, b"token", 60_000]
    caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, 1 << 40), [pack_body("t", b"x", b"", 0)])
    assert explained.parse_holders(caller.ask(explained.explain_token(BUCKET, b"token"))) == (1, ["s:c"])
    assert explained.parse_holders(caller.ask(explained.explain_token(BUCKET, b"none"))) == (0, [])
    name = keys.once(caller.prefix, BUCKET, b"many")
    caller.redis.sadd(name, *(f"s:{i}" for i in range(explained.TOKEN_HOLDERS + 1)))
    many = explained.parse_holders(caller.ask(explained.explain_token(BUCKET, b"many")))
    assert many == (explained.TOKEN_HOLDERS + 1, [])


def test_a_session_in_brief(caller: Caller) -> None:
    assert explained.parse_brief(caller.ask(explained.explain_queue("c"))) is None
    claim = caller.claim()
    brief = explained.parse_brief(caller.ask(explained.explain_queue("c")))
    assert brief is not None
    assert (brief.owner, brief.deadline_ms, brief.queued) == ("node-1", None, 0)
    caller.detach(claim)
    brief = explained.parse_brief(caller.ask(explained.explain_queue("c")))
    assert brief is not None
    assert brief.owner is None
    assert brief.deadline_ms is not None


# Events


def note(caller: Caller, *kinds: str, at_ms: int = 1, most: int = 4000) -> None:
    packed = b"".join(events.pack_event(at_ms, kind, {"reason": "r"}) for kind in reversed(kinds))
    assert caller.ask(events.note_events("c", packed, most, 60_000, True)) in (1, 2)


def test_events_are_kept_for_a_while_the_newest_first(caller: Caller) -> None:
    note(caller, "connected")
    note(caller, "subscribed", "disconnected", at_ms=2)
    assert looked_at(caller).events == [
        StoredEvent(2, "disconnected", {"reason": "r"}),
        StoredEvent(2, "subscribed", {"reason": "r"}),
        StoredEvent(1, "connected", {"reason": "r"}),
    ]
    assert 0 < caller.redis.pttl(keys.events(caller.prefix, BUCKET, "c")) <= 60_000


def test_the_oldest_make_room(caller: Caller) -> None:
    for i in range(100):
        note(caller, f"kind-{i}", at_ms=i, most=500)
    kept = [event.kind for event in looked_at(caller).events]
    assert kept == [f"kind-{i}" for i in range(99, 99 - len(kept), -1)]
    assert 15 < len(kept) < 40
    assert caller.redis.strlen(keys.events(caller.prefix, BUCKET, "c")) == 500


def test_nobody_begins_who_may_not(caller: Caller) -> None:
    packed = events.pack_event(1, "refused", {})
    answers = [caller.ask(events.note_events("c", packed, 100, 60_000, may)) for may in (False, True, False)]
    assert answers == [0, events.BEGAN, events.WENT_ON]
    assert len(looked_at(caller).events) == 2


def test_what_newer_releases_write_is_left_out() -> None:
    known = events.pack_event(1, "connected", {})
    newer = b"\x92\x02\x01"
    assert [event.kind for event in events.unpack_events(newer + known + b"\xc1")] == ["connected"]
    assert events.unpack_events(b"") == []


def test_a_retained_message_or_none(caller: Caller) -> None:
    assert explained.parse_retained(caller.ask(explained.explain_retained("a/b"))) is None
    bucket = keys.bucket_of_topic("a/b")
    caller.redis.hset(keys.retained(caller.prefix, bucket), "a/b", b"12345:record")
    assert explained.parse_retained(caller.ask(explained.explain_retained("a/b"))) == (12, 12345)
