"""What a node asks of its clients, as the settings want it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.auth import Continue, Credentials, Denied, EnhancedAuthenticator, Outcome, Success
from broker.auth.hashing import Hashing
from broker.auth.scram import ScramSha256
from broker.auth.scram_keys import format_keys, make_keys
from broker.auth.user import StoredUser, User
from broker.errors import StartError
from broker.guarding import Guarding, make_guarding
from broker.observability.metrics import Counters
from broker.settings import load
from cluster.roster import Roster
from tests.scram_peer import ScramPeer

CHEAP = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA"


def _make(**auth: object) -> Guarding:
    return make_guarding(load({"auth": auth}), Counters())


def test_nothing_is_asked_unless_it_is_set() -> None:
    assert _make() == Guarding(None, (), None)


def test_each_mechanism(tmp_path: Path) -> None:
    passwords, rules, keys = tmp_path / "passwords", tmp_path / "rules", tmp_path / "keys"
    passwords.write_text("")
    rules.write_text("rules = []")
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    keys.write_text("[[keys]]\nalgorithm = 'HS512'\nsecret_file = 'secret'")
    made = _make(rules_file=str(rules), on_revoked="disconnect")
    assert made.guard is not None
    assert not made.guard.chain.is_asked
    assert made.guard.authorization.is_asked
    assert made.guard.disconnects_revoked
    assert len(made.watches) == 1
    made = _make(password_file=str(passwords))
    assert made.guard is not None
    assert made.guard.chain.is_asked
    assert not made.guard.authorization.is_asked
    assert made.gate is not None
    made = _make(jwt_keys=str(keys), jwt_keys_url="https://keys.example/", password_file=str(passwords))
    assert len(made.watches) == 4


def _listening(
    listeners: dict[str, dict[str, object]], methods: tuple[str, ...] = (), **auth: object
) -> Guarding:
    tables = {
        name: {"address": f"mqtt://127.0.0.1:{port}", **table}
        for port, (name, table) in enumerate(listeners.items(), 2000)
    }
    return make_guarding(load({"auth": auth, "listeners": tables}), Counters(), methods)


def test_what_holds_on_one_listener_only(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    listeners: dict[str, dict[str, object]] = {
        "as-ever": {},
        "open": {"authentication": []},
        "shy": {"allow_anonymous": True},
        "words": {"authentication": ["password_file"]},
        "method": {"authentication": ["M"]},
        "strict": {"allow_anonymous": False},
    }
    made = _listening(listeners, ("M", "N"), password_file=str(passwords), certificate_username="subject")
    guard = made.guard
    assert guard is not None
    assert guard.chain_of("as-ever") is guard.chain_of("listen") is guard.chain
    method = ScramSha256([], bytes, 4096)
    told = {
        name: (chain.is_asked, *(chain.method(each, {each: method}) is method for each in ("M", "N")))
        for name, chain in guard.chains.items()
    }
    assert told == {
        "open": (False, False, False),
        "shy": (True, True, True),
        "words": (True, False, False),
        "method": (True, True, False),
        "strict": (True, True, True),
    }


def test_an_open_listener_of_a_node_that_asks_nothing() -> None:
    made = _listening({"strict": {"allow_anonymous": False}}, ("M",))
    assert made.guard is not None
    assert made.guard.chain_of("strict").is_asked  # who does not name the method is denied
    assert not made.guard.chain.is_asked


def test_who_is_not_there_cannot_be_asked() -> None:
    """All mistakes are told."""
    with pytest.raises(StartError) as caught:
        _listening(
            {
                "a": {"authentication": ["jwt", "M", "typo"]},
                "c": {"allow_anonymous": False, "authentication": []},
            },
            ("M",),
            authenticators=[],
        )
    lines = str(caught.value).splitlines()
    assert lines == [
        "listeners.a.authentication: jwt, typo: not set up; there are: M",
        "listeners.c.allow_anonymous: nothing is set up that lets anybody in there",
    ]


def test_users_and_rules_in_redis() -> None:
    made = _make(redis_rules=True)
    assert made.guard is not None
    assert made.follow is not None
    assert not made.guard.chain.is_asked
    made = _make(redis_users=True)
    assert made.guard is not None
    assert made.follow is not None
    assert made.guard.chain.is_asked
    assert not made.guard.authorization.is_asked
    assert made.gate is not None
    assert not made.authenticators
    assert list(_make(redis_users=True, scram=True).authenticators) == ["SCRAM-SHA-256"]


KEYED = ("ann", "bob")
"""In the file, and in Redis."""


def _scram_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str] | None, given: tuple[str, ...] = ()
) -> tuple[Guarding, Mapping[str, EnhancedAuthenticator]]:
    """What a listener has by the name of SCRAM, if the node is asked for some `given` ones, too."""

    keys = make_keys("x", 4096)

    async def find(self: Roster, name: str) -> StoredUser | None:
        return StoredUser(name, User("", scram=keys), 1, 1, 0, 0) if name == KEYED[1] else None

    monkeypatch.setattr(Roster, "find", find)
    (tmp_path / "passwords").write_text(f"{KEYED[0]}:{CHEAP}:{format_keys(keys)}\n")
    listeners: dict[str, dict[str, object]] = {"x": {"authentication": asked} if asked else {}}
    auth: dict[str, object] = {"password_file": str(tmp_path / "passwords"), "redis_users": True}
    made = _listening(listeners, given, scram=True, **auth)
    return made, made.authenticators


@pytest.mark.parametrize(
    ("asked", "let_in"),
    [
        (None, KEYED),
        (["SCRAM-SHA-256"], KEYED),
        (["password_file", "SCRAM-SHA-256"], ("ann",)),
        (["redis_users", "SCRAM-SHA-256"], ("bob",)),
        (["password_file", "redis_users", "SCRAM-SHA-256"], KEYED),
    ],
)
def test_scram_asks_whom_the_listener_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str] | None, let_in: tuple[str, ...]
) -> None:
    made, known = _scram_listener(tmp_path, monkeypatch, asked)
    assert made.guard is not None
    method = made.guard.chain_of("x").method("SCRAM-SHA-256", known)
    assert method is not None
    found = tuple(name for name in KEYED if isinstance(asyncio.run(_talk(method, name)), Success))
    assert found == let_in


async def _talk(method: EnhancedAuthenticator, name: str) -> Outcome:
    peer = ScramPeer(name, "x")
    exchange = method.begin("c", None)
    challenge = await exchange.step(peer.first())
    assert isinstance(challenge, Continue)
    assert challenge.data is not None
    return await exchange.step(peer.final(challenge.data))


def test_a_listener_without_scram_and_one_with_that_of_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, known = _scram_listener(tmp_path, monkeypatch, ["password_file"])
    assert made.guard is not None
    assert made.guard.chain_of("x").method("SCRAM-SHA-256", known) is None
    made, _ = _scram_listener(tmp_path, monkeypatch, ["SCRAM-SHA-256"], ("SCRAM-SHA-256",))
    assert made.guard is not None
    other = ScramSha256([], bytes, 4096)
    assert made.guard.chain_of("x").method("SCRAM-SHA-256", {"SCRAM-SHA-256": other}) is other


def test_scram_for_the_password_file_alone_needs_a_secret_that_all_nodes_have(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("")
    made = _make(password_file=str(tmp_path / "passwords"), scram=True)
    assert list(made.authenticators) == ["SCRAM-SHA-256"]
    assert made.follow is not None
    assert _make(password_file=str(tmp_path / "passwords")).follow is None


@pytest.mark.parametrize(
    ("asked", "hashes"), [(None, 1), (["password_file"], 2), (["password_file", "redis_users"], 1)]
)
def test_nobody_can_tell_who_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str] | None, hashes: int
) -> None:
    """On no listener; and where Redis is asked next, the file does not hash for it."""
    hashed: list[str] = []

    async def verify(self: Hashing, address: str, text: str, password: bytes) -> bool:
        hashed.append(text)
        return False

    async def find(self: Roster, name: str) -> None:
        """There is nobody."""

    monkeypatch.setattr(Hashing, "verify", verify)
    monkeypatch.setattr(Roster, "find", find)
    (tmp_path / "passwords").write_text("")
    listener = {"address": "mqtt://127.0.0.1:0"} | ({"authentication": asked} if asked else {})
    auth = {"password_file": str(tmp_path / "passwords"), "redis_users": True}
    made = make_guarding(load({"auth": auth, "listeners": {"x": listener}}), Counters())
    assert made.guard is not None
    chain = made.guard.chain
    verdict = asyncio.run(chain.authenticate(Credentials("c", "ann", b"x", "10.0.0.1", "tcp")))
    assert verdict == Denied()
    assert len(hashed) == hashes


@pytest.mark.parametrize("field", ["password_file", "rules_file", "jwt_keys"])
def test_a_file_with_mistakes_prevents_the_start(tmp_path: Path, field: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StartError, match="file"):
        _make(**{field: str(tmp_path / "file")})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sql_url": "sqlite+aiosqlite:///tellme", "sql_acl_query": "SELECT :password"}, ":password is not"),
        ({"sql_url": "mysql+asyncmy://u:tellme@h/d", "sql_user_query": "SELECT 1"}, "pip install 'moorline"),
        ({"sql_url": "u:tellme@h/d", "sql_user_query": "SELECT 1"}, "not the URL of a database"),
        ({"sql_url": "x:tellme", "sql_url_file": __file__, "sql_acl_query": "SELECT 1"}, "one of them"),
        ({"sql_url": "sqlite+aiosqlite:///x"}, "need each other"),
        ({"sql_acl_query": "SELECT 1"}, "need each other"),
        ({"sql_url_file": "/nothing", "sql_acl_query": "SELECT 1"}, "No such file"),
        ({"sql_url_file": __file__, "sql_acl_query": "SELECT 1"}, "not the URL of a database"),
        ({"http_authenticate_url": "http://tellme.example/"}, "auth.http_plain"),
        ({"http_authorize_url": "https://u:tellme@auth.example/"}, "auth.http_headers_file"),
        ({"http_authorize_url": "ftp://auth.example/"}, "neither with https://"),
        ({"http_authorize_url": "https://bücher.example/"}, "no URL in ASCII"),
        ({"http_authorize_url": "https://auth.example/a b"}, "no URL in ASCII"),
        ({"http_authorize_url": "https://auth.example:tellme/"}, "not a URL"),
        ({"http_authorize_url": "https://[auth.example/"}, "not a URL"),
        ({"http_certificate": __file__}, "need each other"),
        ({"http_certificate": __file__, "http_key": __file__}, "no PEM file"),
        ({"http_ca_file": __file__}, "no PEM file"),
        ({"http_headers_file": "/nothing"}, "No such file"),
        ({"http_headers_file": __file__, "http_authorize_url": "https://auth.example/"}, "not a header"),
    ],
)
def test_whom_nobody_can_ask(settings: dict[str, object], reason: str) -> None:
    """Told at the start, and without what is secret."""
    with pytest.raises(StartError) as caught:
        _make(**settings)
    assert reason in str(caught.value)
    assert "tellme" not in str(caught.value)


def test_who_is_asked(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("sqlite+aiosqlite:///x\n")
    sql = {"sql_url_file": str(tmp_path / "url"), "sql_user_query": "SELECT 1", "sql_acl_query": "SELECT 1"}
    made = _make(**sql)
    assert made.guard is not None
    assert made.guard.chain.is_asked
    assert made.guard.authorization.is_asked
    assert made.gate is not None
    assert len(made.watches) == 4
    made = _make(http_authenticate_url="http://auth.example/", http_plain=True)
    assert made.guard is not None
    assert made.guard.chain.is_asked
    assert not made.guard.authorization.is_asked
    made = _make(http_authorize_url="http://[::1]:9000/", http_headers_file=_written(tmp_path, "X: y"))
    assert made.guard is not None
    assert not made.guard.chain.is_asked
    assert made.guard.authorization.is_asked
    assert len(made.watches) == 2


def _written(directory: Path, text: str) -> str:
    (directory / "headers").write_text(text)
    return str(directory / "headers")


@pytest.mark.parametrize("field", ["authenticators", "authorizers"])
def test_a_plugin_that_is_not_there_prevents_the_start(field: str) -> None:
    with pytest.raises(StartError, match="no entry point 'nothing'"):
        _make(**{field: ["nothing"]})
