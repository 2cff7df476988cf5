"""The HTTP server that is asked about clients: what is sent, what its answers mean, and when it fails."""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth import (
    Access,
    Action,
    Credentials,
    Decision,
    Denied,
    Identity,
    PeerCertificate,
    Rights,
    Unavailable,
    Verdict,
)
from broker.auth.authorization import Authorization
from broker.auth.gate import Busy
from broker.auth.http_client import Closed, HttpClient, HttpConnection, read_headers
from broker.auth.http_hook import HttpAuthenticator, HttpAuthorizer
from broker.auth.remote import Remote
from broker.observability.metrics import Tally
from broker.settings.auth_http import http_context
from tests.auth.answering import Reply, Server, answer, answering
from tests.ports import free_port
from tests.tools import make_certificate

CERTIFICATE = PeerCertificate("CN=ann.example,O=Acme", "CN=ca", "5", 1e10, "ann.example")
ANN = Credentials("c1", "ann", "sécret".encode(), "10.0.0.1", "tls", CERTIFICATE)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
FUTURE = int(time.time()) + 3600


def _run(
    reply: Reply, test: Callable[[HttpAuthenticator, Server], Awaitable[None]], connections: int = 2
) -> Tally:
    """With an authenticator that asks a server which replies like that; what was counted."""
    requests = Tally()

    async def run() -> None:
        async with answering(reply) as server:
            url = f"http://127.0.0.1:{server.port}/in"
            client = HttpClient(url, [(b"Authorization", b"Bearer x")], CONTEXT)
            try:
                await test(HttpAuthenticator(client, Remote("http", connections, 3, requests)), server)
            finally:
                await client.close()

    asyncio.run(run())
    return requests


def _verdict(document: object, credentials: Credentials = ANN) -> Verdict:
    found: list[Verdict] = []

    async def ask(authenticator: HttpAuthenticator, _: Server) -> None:
        found.append(await authenticator.authenticate(credentials))

    _run(lambda asked: answer(document), ask)
    return found[0]


def test_what_is_sent() -> None:
    async def ask(authenticator: HttpAuthenticator, server: Server) -> None:
        await authenticator.authenticate(ANN)
        await authenticator.authenticate(Credentials("c2", None, None, "", "tcp"))
        first, second = server.asked
        assert first.path == "/in"
        assert first.headers["content-type"] == "application/json"
        assert first.headers["authorization"] == "Bearer x"
        assert first.document == {
            "clientid": "c1",
            "username": "ann",
            "password": "sécret",
            "peerhost": "10.0.0.1",
            "listener": "tls",
            "cert_common_name": "ann.example",
            "cert_subject": "CN=ann.example,O=Acme",
        }
        assert (second.document["username"], second.document["password"]) == (None, None)
        assert server.connections == 1  # it was kept

    assert _run(lambda asked: answer({"result": "ignore"}), ask)["http"] == 2


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"result": "allow"}, Identity("ann", source="http")),
        (
            {"result": "allow", "is_superuser": False, "client_attrs": {"a": "b"}},
            Identity("ann", source="http"),
        ),
        (
            {"result": "allow", "username": "bob", "groups": ["x"]},
            Identity("bob", frozenset("x"), source="http"),
        ),
        ({"result": "allow", "expire_at": FUTURE}, Identity("ann", deadline=float(FUTURE), source="http")),
        ({"result": "allow", "expire_at": 1}, Denied()),
        ({"result": "deny", "is_superuser": True}, Denied()),
        ({"result": "ignore"}, None),
    ],
)
def test_what_an_answer_means(document: object, expected: Verdict) -> None:
    assert _verdict(document) == expected


def _may(identity: Verdict, action: Action, topic: str) -> bool | None:
    assert isinstance(identity, Identity)
    rights = Rights(Authorization(None, (), False, 1, False, 0, 10), identity, "c1", "10.0.0.1")
    return rights.decide_now(rights.access(action, topic, 0, False))


def test_what_a_client_may_do_by_an_answer() -> None:
    entries = [
        {"permission": "deny", "action": "all", "topic": "a/secret"},
        {"permission": "allow", "action": "publish", "topic": "a/${clientid}"},
        {"permission": "allow", "action": "subscribe", "topic": "a/#", "qos": [0, 1, 2], "retain": "all"},
    ]
    identity = _verdict({"result": "allow", "acl": entries})
    assert _may(identity, Action.PUBLISH, "a/c1")
    assert not _may(identity, Action.PUBLISH, "a/c2")
    assert _may(identity, Action.SUBSCRIBE, "a/c2")
    assert not _may(identity, Action.SUBSCRIBE, "a/+")
    identity = _verdict({"result": "allow", "acl": {"publish": ["a/%u"]}})
    assert _may(identity, Action.PUBLISH, "a/ann")
    assert not _may(identity, Action.SUBSCRIBE, "a/ann")
    identity = _verdict({"result": "allow", "is_superuser": True, "acl": []})
    assert _may(identity, Action.SUBSCRIBE, "$SYS/#")
    assert not _may(_verdict({"result": "allow", "acl": []}), Action.PUBLISH, "a")


def _allowed(**more: object) -> bytes:
    return answer({"result": "allow"} | more)


UNUSABLE: list[tuple[str, bytes]] = [
    ("redirect", answer({"result": "allow"}, 307, "Location: /out")),
    ("not found", answer({"result": "allow"}, 404)),
    ("unauthorized", answer({"result": "allow"}, 401)),
    ("error", answer({"result": "allow"}, 500)),
    ("unavailable", answer({"result": "allow"}, 503)),
    ("created", answer({"result": "allow"}, 201)),
    ("empty", answer(b"")),
    ("no JSON", answer(b"allow")),
    ("not UTF-8", answer(b'{"result": "allow", "username": "\xff"}')),
    ("half a character", answer(b'{"result": "allow", "username": "\\ud800"}')),
    ("deep", answer(b'{"result": "allow", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}")),
    ("list", answer([{"result": "allow"}])),
    ("no result", answer({"username": "ann"})),
    ("result", answer({"result": True})),
    ("RESULT", answer({"result": "ALLOW"})),
    ("username", _allowed(username=5)),
    ("groups", _allowed(groups="staff")),
    ("superuser", _allowed(is_superuser="false")),
    ("end", _allowed(expire_at="tomorrow")),
    ("true end", _allowed(expire_at=True)),
    ("acl", _allowed(acl="#")),
    ("acl qos", _allowed(acl=[{"permission": "allow", "action": "all", "topic": "#", "qos": [1]}])),
    ("acl filter", _allowed(acl=[{"permission": "allow", "action": "all", "topic": "a#"}])),
    ("huge", answer(b" " * 70_000 + b'{"result": "allow"}')),
    ("endless head", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
    ("garbage", b"\x00\xff" * 100),
    ("nothing", b""),
    ("cut", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{}"),
]


@pytest.mark.parametrize("data", [data for _, data in UNUSABLE], ids=[name for name, _ in UNUSABLE])
def test_an_answer_that_can_not_be_used_lets_nobody_in(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def ask(authenticator: HttpAuthenticator, _: Server) -> None:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(authenticator.authenticate(ANN), 5)

    assert _run(lambda asked: data, ask)["http_failed"] == 1
    assert caplog.text.count("could not be asked") == 1
    assert "cret" not in caplog.text
    assert "Bearer" not in caplog.text


def test_status_204_is_no_opinion() -> None:
    async def ask(authenticator: HttpAuthenticator, _: Server) -> None:
        assert await authenticator.authenticate(ANN) is None

    _run(lambda asked: b"HTTP/1.1 204 No Content\r\n\r\n", ask)


def test_a_password_that_is_no_text_is_for_others() -> None:
    assert _verdict({"result": "allow"}, Credentials("c", "ann", b"\xff", "", "tcp")) is None


def test_a_connection_that_was_closed_meanwhile() -> None:
    """A server may end a connection in the moment in which it is used again."""
    replies = [answer({"result": "deny"}), b"", answer({"result": "allow"})]

    async def ask(authenticator: HttpAuthenticator, server: Server) -> None:
        assert await authenticator.authenticate(ANN) == Denied()
        assert isinstance(await authenticator.authenticate(ANN), Identity)
        assert server.connections == 2

    _run(lambda asked: replies.pop(0), ask)


def test_a_storm_is_bounded() -> None:
    """Two requests at a time; three clients wait, and others are told that the server is busy."""

    async def ask(authenticator: HttpAuthenticator, server: Server) -> None:
        asking = (authenticator.authenticate(ANN) for _ in range(50))
        verdicts = await asyncio.gather(*asking, return_exceptions=True)
        assert sum(isinstance(verdict, Busy) for verdict in verdicts) == 45
        assert sum(isinstance(verdict, Identity) for verdict in verdicts) == 5
        assert server.most == 2
        assert server.connections == 2

    requests = _run(lambda asked: answer({"result": "allow"}), ask)
    assert (requests["http"], requests["http_busy"]) == (5, 45)


def test_a_server_that_does_not_answer_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    is_asked = asyncio.Event()

    async def ask(authenticator: HttpAuthenticator, server: Server) -> None:
        for _ in range(5):
            is_asked.clear()
            asking = asyncio.ensure_future(authenticator.authenticate(ANN))
            await is_asked.wait()
            asking.cancel()  # as when a client has to be answered
            with pytest.raises(asyncio.CancelledError):
                await asking
        for _ in range(100):
            with pytest.raises(Unavailable):
                await authenticator.authenticate(ANN)
        assert len(server.asked) == 5

    requests = _run(lambda asked: is_asked.set(), ask)
    assert requests["http_failed"] == 105
    assert not caplog.records


def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        url = f"http://127.0.0.1:{free_port()}/"
        client = HttpClient(url, (), CONTEXT)
        authenticator = HttpAuthenticator(client, Remote("http", 2, 3, Tally()))
        with pytest.raises(Unavailable):
            await authenticator.authenticate(ANN)
        await client.close()

    asyncio.run(run())
    assert "no connection" in caplog.text


def test_nonsense_for_one_client_keeps_nobody_out() -> None:
    """Who can make the server fail for himself must not be able to have it left alone for all."""

    async def ask(authenticator: HttpAuthenticator, server: Server) -> None:
        evil = Credentials("c", "evil", b"x", "10.6.6.6", "tcp")
        for _ in range(20):
            with pytest.raises(Unavailable):
                await authenticator.authenticate(evil)
        assert isinstance(await authenticator.authenticate(ANN), Identity)

    _run(lambda asked: answer({"result": "allow"}, 500 if asked.document["username"] == "evil" else 200), ask)


@pytest.mark.parametrize(
    ("result", "expected"),
    [("allow", Decision.ALLOW), ("deny", Decision.DENY), ("ignore", Decision.NO_OPINION), (None, None)],
)
def test_what_a_client_may_do(result: str | None, expected: Decision | None) -> None:
    async def run() -> None:
        async with answering(lambda asked: answer({"result": result})) as server:
            client = HttpClient(f"http://127.0.0.1:{server.port}/do?x=1", (), CONTEXT)
            authorizer = HttpAuthorizer(client, Remote("http", 2, 3, Tally()))
            identity = Identity("ann", frozenset({"b", "a"}))
            access = Access(identity, "c1", "10.0.0.1", Action.PUBLISH, "a/b", 1, True, "tls", "pump")
            if expected is None:
                with pytest.raises(Unavailable):
                    await authorizer.authorize(access)
            else:
                assert await authorizer.authorize(access) is expected
            assert server.asked[0].path == "/do?x=1"
            assert server.asked[0].document == {
                "clientid": "c1",
                "username": "ann",
                "groups": ["a", "b"],
                "peerhost": "10.0.0.1",
                "cert_common_name": "pump",
                "action": "publish",
                "topic": "a/b",
                "qos": 1,
                "retain": True,
            }
            await client.close()

    asyncio.run(run())


def test_both_sides_prove_themselves(tmp_path: Path) -> None:
    server_side, node_side = make_certificate(tmp_path), make_certificate(tmp_path, "node")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_side.file, server_side.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(node_side.file)

    async def ask(port: int, trusted: ssl.SSLContext) -> Verdict:
        client = HttpClient(f"https://127.0.0.1:{port}/", (), trusted)
        try:
            return await HttpAuthenticator(client, Remote("http", 2, 3, Tally())).authenticate(ANN)
        finally:
            await client.close()

    async def run() -> None:
        async with answering(lambda asked: answer({"result": "allow"}), context) as server:
            both = http_context(server_side.file, node_side.file, node_side.key)
            assert isinstance(await ask(server.port, both), Identity)
            for wrong in (
                http_context(None, node_side.file, node_side.key),
                http_context(server_side.file, None, None),
            ):
                with pytest.raises(Unavailable):
                    await ask(server.port, wrong)

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


PIECES = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200\r\n",
            b"HTTP/1.1 204 X\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n",
            b"Content-Length: 2\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"\r\n",
            b"2\r\n{}\r\n",
            b"0\r\n\r\n",
            b"{}",
        ]
    )
    | st.binary(max_size=20),
    max_size=8,
)


class _Transport:
    """In place of a socket."""

    is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


async def _outcome(chunks: list[bytes]) -> tuple[object, bool]:
    """The answer or the kind of failure, and whether the connection is kept."""
    connection, transport = HttpConnection(), _Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    request = h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "2")])
    answer = asyncio.ensure_future(connection.exchange(request, b"{}"))
    await asyncio.sleep(0)
    for chunk in chunks:
        if not transport.is_closed:
            connection.data_received(chunk)
    is_kept = answer.done() and not transport.is_closed
    connection.connection_lost(None)
    try:
        return await asyncio.wait_for(answer, 1), is_kept
    except (Unavailable, Closed) as error:
        return type(error), is_kept


@given(PIECES)
@settings(max_examples=100, deadline=None)
def test_whatever_a_server_sends_is_an_answer_or_none(pieces: list[bytes]) -> None:
    """However it is cut. A connection is kept only if nothing follows the answer."""

    async def run() -> None:
        data = b"".join(pieces)
        whole = await _outcome([data] if data else [])
        assert await _outcome([data[at : at + 1] for at in range(len(data))]) == whole
        if whole[1]:
            assert await _outcome([data, b"x"]) == (whole[0], False)

    asyncio.run(run())


def test_headers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# for the server\n\nAuthorization: Bearer secret: x\nX-Key:y\n")
    assert read_headers(file) == [(b"Authorization", b"Bearer secret: x"), (b"X-Key", b"y")]
    file.write_text("secret\nHost: x\nX-Key: a\tb\n")
    with pytest.raises(ValueError, match="line 1: not a header") as caught:
        read_headers(file)
    assert "line 2: Host is set by the node" in str(caught.value)
    assert "line 3: not a header" in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(file), "")
    file.write_text("X: y\n" * 51)
    with pytest.raises(ValueError, match="over 50"):
        read_headers(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_headers(file)
    with pytest.raises(ValueError, match="No such file"):
        read_headers(tmp_path / "nothing")


def test_a_large_answer_is_read_in_no_time() -> None:
    """What is allowed at most holds up the event loop for some ms only."""
    entries = [{"permission": "allow", "action": "publish", "topic": f"a/{n}"} for n in range(900)]
    document = {"result": "allow", "acl": entries}
    assert len(json.dumps(document)) < 65_536
    before = time.process_time()
    assert isinstance(_verdict(document), Identity)
    assert time.process_time() - before < 0.5
