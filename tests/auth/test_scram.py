"""SCRAM-SHA-256: the vectors of RFC 7677, what is refused, and an implementation of others as its peer."""

import asyncio
import base64
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.enhanced import Continue, Failure, Outcome, Success
from broker.auth.scram import (
    Find,
    Found,
    ScramError,
    ScramExchange,
    ScramSha256,
    ScramSource,
    parse_client_final,
    parse_client_first,
)
from broker.auth.scram_keys import make_keys
from broker.auth.user import ScramKeys, StoredUser, User
from broker.errors import MoorlineError
from broker.mqtt import ReasonCode
from tests.scram_peer import Refused, ScramPeer

# RFC 7677, section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
UNSIGNED = f"c=biws,r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}".encode()
CLIENT_FINAL = UNSIGNED + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

KEYS = make_keys("pencil", 4096, SALT)
USER = StoredUser("user", User("", frozenset({"g"}), scram=KEYS), 7, 7, 0, 0)
SECRET = b"\1" * 32


class Store:
    """Knows `user`; a test may change that between two steps."""

    def __init__(self) -> None:
        self.user: StoredUser | None = USER
        self.is_away = False

    async def find(self, name: str) -> Found | None:
        if self.is_away:
            raise MoorlineError("away")
        return Found(self.user, "store") if self.user is not None and name == "user" else None


def _method(*finds: Find, secret: bytes = SECRET, iterations: tuple[int | None, ...] = ()) -> ScramSha256:
    """With sources of these names: 0, 1, ..."""
    known = [*iterations, *(None for _ in finds)]
    sources = [
        ScramSource(str(number), find, lambda number=number: known[number])  # type: ignore[misc]  # bound
        for number, find in enumerate(finds)
    ]
    return ScramSha256(sources, lambda: secret, 4096)


def _exchange(store: Store) -> ScramExchange:
    return ScramExchange(store.find, lambda name: KEYS, lambda: SERVER_NONCE)


def _steps(*messages: bytes | None, store: Store | None = None) -> list[Outcome]:
    exchange = _exchange(store or Store())

    async def run() -> list[Outcome]:
        return [await exchange.step(message) for message in messages]

    return asyncio.run(run())


def test_the_vectors_of_the_specification() -> None:
    assert _steps(CLIENT_FIRST, CLIENT_FINAL) == [
        Continue(SERVER_FIRST, "user"),
        Success("user", SERVER_FINAL, USER.identity("store")),
    ]
    assert USER.identity("store").groups == {"g"}


def _talk(method: ScramSha256, name: str, password: str) -> Outcome:
    """An exchange with the other implementation; it checks what the server proves."""

    async def run() -> Outcome:
        peer = ScramPeer(name, password)
        exchange = method.begin("c", None)
        outcome = await exchange.step(peer.first())
        assert isinstance(outcome, Continue)
        assert outcome.data is not None
        outcome = await exchange.step(peer.final(outcome.data))
        if isinstance(outcome, Success):
            assert outcome.data is not None
            peer.check(outcome.data)
        return outcome

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "password"), [("user", "p=,w"), ("é=,x", "pä\u00a0ss\u00ad"), ("Ⅸ", "x" * 500)]
)
def test_another_implementation(name: str, password: str) -> None:
    prepared = "IX" if name == "Ⅸ" else name
    user = StoredUser(prepared, User("", scram=make_keys(password, 4096)), 1, 1, 0, 0)

    async def find(wanted: str) -> StoredUser | None:
        return user if wanted == prepared else None

    method = _method(find)
    outcome = _talk(method, name, password)
    assert isinstance(outcome, Success)
    assert outcome.username == prepared
    assert isinstance(_talk(method, name, password + "?"), Failure)


def test_all_that_does_not_come_in_looks_the_same() -> None:
    async def find(name: str) -> StoredUser | None:
        users = {
            "wrong": User("", scram=make_keys("another", 4096)),
            "off": User("", is_enabled=False, scram=make_keys("x", 4096)),
            "hashed": User("hash"),
        }
        return StoredUser(name, users[name], 1, 1, 0, 0) if name in users else None

    method = _method(find)
    outcomes = {_talk(method, name, "x") for name in ("wrong", "off", "hashed", "nobody")}
    assert {(o.reason, o.reason_code) for o in outcomes if isinstance(o, Failure)} == {
        ("e=invalid-proof", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
    }
    assert not any(isinstance(outcome, Success) for outcome in outcomes)


def test_the_salt_of_nobody_stays_and_is_its_own() -> None:
    async def find(name: str) -> StoredUser | None:
        return None

    def first(secret: bytes, name: str) -> bytes:
        async def run() -> bytes:
            exchange = _method(find, secret=secret).begin("c", None)
            outcome = await exchange.step(f"n,,n={name},r=x".encode())
            assert isinstance(outcome, Continue)
            assert outcome.data is not None
            return outcome.data.partition(b",")[2]

        return asyncio.run(run())

    assert first(SECRET, "a") == first(SECRET, "a")
    assert len({first(SECRET, "a"), first(SECRET, "b"), first(b"other", "a")}) == 3


def _knows(**users: str | None) -> Find:
    """Who has these passwords there; None: no keys."""

    async def find(name: str) -> StoredUser | None:
        if name not in users:
            return None
        password = users[name]
        keys = make_keys(password, 4096, SALT) if password is not None else None
        return StoredUser(name, User("", scram=keys), 0, 0, 0, 0)

    return find


def test_the_first_source_that_knows_a_user_decides() -> None:
    method = _method(_knows(ann="1", bob="1", keyless=None), _knows(ann="2", carol="2", keyless="2"))
    sources: dict[tuple[str, str], str | None] = {}
    for name in ("ann", "bob", "carol", "keyless", "nobody"):
        for password in ("1", "2"):
            outcome = _talk(method, name, password)
            identity = outcome.identity if isinstance(outcome, Success) else None
            sources[name, password] = identity.source if identity is not None else None
    assert {asked: source for asked, source in sources.items() if source is not None} == {
        ("ann", "1"): "SCRAM-SHA-256 0",
        ("bob", "1"): "SCRAM-SHA-256 0",
        ("carol", "2"): "SCRAM-SHA-256 1",
    }


def test_a_user_who_comes_into_an_earlier_source_meanwhile() -> None:
    """Though the keys are the same: it is another user."""

    async def run() -> Outcome:
        early: dict[str, str | None] = {}

        async def find(name: str) -> StoredUser | None:
            return await _knows(**early)(name)

        exchange = _method(find, _knows(user="pencil")).begin("c", None)
        peer = ScramPeer("user", "pencil")
        outcome = await exchange.step(peer.first())
        assert isinstance(outcome, Continue)
        assert outcome.data is not None
        early["user"] = "pencil"
        return await exchange.step(peer.final(outcome.data))

    assert isinstance(asyncio.run(run()), Failure)


@pytest.mark.parametrize(
    ("known", "expected"), [((), 4096), ((None, 5000), 5000), ((6000, 5000), 6000), ((6000, None), 6000)]
)
def test_who_is_not_there_has_as_many_iterations_as_who_is(
    known: tuple[int | None, ...], expected: int
) -> None:
    """And so has who has no keys."""

    async def run(name: str) -> Outcome:
        method = _method(_knows(keyless=None), _knows(), iterations=known)
        return await method.begin("c", None).step(f"n,,n={name},r=x".encode())

    for name in ("nobody", "keyless", "#no-user-name"):
        outcome = asyncio.run(run(name))
        assert isinstance(outcome, Continue)
        assert outcome.username == name  # so the next attempts of it have to wait, as anybody's
        assert outcome.data is not None
        assert outcome.data.rpartition(b",i=")[2] == b"%d" % expected


def _changed(store: Store) -> None:
    store.user = StoredUser("user", USER.user, 8, 8, 0, 0)


def _deleted(store: Store) -> None:
    store.user = None


@pytest.mark.parametrize("change", [_changed, _deleted])
def test_a_user_that_is_changed_meanwhile(change: Callable[[Store], None]) -> None:
    async def run() -> Outcome:
        store = Store()
        exchange = _exchange(store)
        await exchange.step(CLIENT_FIRST)
        change(store)
        return await exchange.step(CLIENT_FINAL)

    assert asyncio.run(run()) == Failure("e=invalid-proof", ReasonCode.BAD_USER_NAME_OR_PASSWORD, "user")


@pytest.mark.parametrize("steps", [0, 1])
def test_a_store_that_is_away(steps: int) -> None:
    async def run() -> Outcome:
        store = Store()
        exchange = _exchange(store)
        if steps:
            await exchange.step(CLIENT_FIRST)
        store.is_away = True
        return await exchange.step(CLIENT_FINAL if steps else CLIENT_FIRST)

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert outcome.reason_code == ReasonCode.SERVER_UNAVAILABLE


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (None, "other-error"),
        (b"", "other-error"),
        (b"n,,n=user", "other-error"),
        (b"n,,n=,r=x", "other-error"),
        (b"n,,n=user,r=", "other-error"),
        (b"n,,n=user,r=a b", "other-error"),
        (b"n,,n=user,r=" + b"x" * 257, "other-error"),
        (b"x,,n=user,r=x", "other-error"),
        (b"n,n=user,r=x", "other-error"),
        (b"n,,r=x,n=user", "other-error"),
        (b"n,,n=us\0er,r=x", "other-error"),
        (b"n,a=other,n=user,r=x", "other-error"),
        (b"n,,n=" + b"x" * 4096 + b",r=x", "other-error"),
        (b"n,,n=" + b"x" * 256 + b",r=x", "other-error"),
        (b"n,,n=user,r=x,nonsense", "other-error"),
        (b"p=tls-exporter,,n=user,r=x", "channel-binding-not-supported"),
        (b"n,,m=ext,n=user,r=x", "extensions-not-supported"),
        (b"n,,n=us=er,r=x", "invalid-username-encoding"),
        (b"n,,n=us=2cer,r=x", "invalid-username-encoding"),
        (b"n,,n=\xc2\xad,r=x", "invalid-username-encoding"),
        (b"n,,n=\xc8\xa1,r=x", "invalid-username-encoding"),
        (b"n,,n=\xff,r=x", "invalid-encoding"),
    ],
)
def test_a_bad_beginning(message: bytes | None, error: str) -> None:
    (outcome,) = _steps(message)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.reason_code) == (f"e={error}", ReasonCode.NOT_AUTHORIZED)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (None, "other-error"),
        (UNSIGNED, "other-error"),
        (UNSIGNED.replace(b"hvY", b"hvX") + b",p=AA==", "other-error"),
        (UNSIGNED.replace(b"biws", b"eSws") + b",p=AA==", "channel-bindings-dont-match"),
        (UNSIGNED.replace(b"biws", b"bi") + b",p=AA==", "invalid-encoding"),
        (UNSIGNED + b",p=AA", "invalid-encoding"),
        (UNSIGNED + b",p=AA==,x=1", "other-error"),
        (UNSIGNED + b",p=AA==", "invalid-proof"),
        (CLIENT_FINAL.replace(b"dHzb", b"dHzc"), "invalid-proof"),
        (b"n,,n=user,r=x", "other-error"),
    ],
)
def test_a_bad_end(message: bytes | None, error: str) -> None:
    _, outcome = _steps(CLIENT_FIRST, message)
    assert isinstance(outcome, Failure)
    assert outcome.reason == f"e={error}"
    assert outcome.username == "user"


def test_a_client_that_thinks_we_have_no_channel_binding() -> None:
    first, _ = _steps(CLIENT_FIRST.replace(b"n,,", b"y,,"), UNSIGNED)
    assert isinstance(first, Continue)
    first, second = _steps(
        CLIENT_FIRST.replace(b"n,,", b"y,,"), UNSIGNED.replace(b"biws", b"eSws") + b",p=AA=="
    )
    assert isinstance(second, Failure)
    assert second.reason == "e=invalid-proof"  # the header fits


def test_a_user_may_act_for_itself() -> None:
    assert parse_client_first(b"n,a=us=3Der,n=us=3Der,r=x").name == "us=er"
    assert parse_client_first(b"n,,n=a=2Cb,r=x,t=later").name == "a,b"


@given(st.binary(max_size=200))
def test_nothing_else_is_raised(data: bytes) -> None:
    for parse in (parse_client_first, parse_client_final):
        with pytest.raises(ScramError):
            parse(data)


@given(
    st.sampled_from(["n", "y", "p=x"]),
    st.lists(
        st.sampled_from(["n=u", "r=abc", "m=x", "a=u", "c=biws", "p=AA==", "", "n==2C", "=", "é", "\0"]),
        max_size=6,
    ),
)
def test_parts_in_any_order(binding: str, parts: list[str]) -> None:
    data = ",".join([binding, *parts]).encode()
    for parse in (parse_client_first, parse_client_final):
        with suppress(ScramError):
            assert parse(data).nonce == "abc"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_that_the_other_implementation_takes(name: str) -> None:
    try:
        data = ScramPeer(name, "x").first()
    except Refused:
        return
    assert parse_client_first(data).name


def test_a_step_is_short() -> None:
    """It is done on the event loop."""
    exchange = _exchange(Store())
    started = time.process_time()

    async def run() -> None:
        for _ in range(100):
            await _exchange(Store()).step(CLIENT_FIRST)
            await exchange.step(CLIENT_FIRST)
            exchange._first = None

    asyncio.run(run())
    assert time.process_time() - started < 0.2


def test_keys_do_not_show() -> None:
    shown = repr(KEYS) + repr(USER) + repr(ScramKeys(1, b"salty", b"stored", b"server"))
    assert "salty" not in shown
    assert KEYS.stored_key.hex() not in shown
    assert repr(KEYS.stored_key) not in shown
