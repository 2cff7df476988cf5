"""SCRAM-SHA-256 on two nodes, with a client that others have written."""

import re
from collections.abc import Iterator

import pytest

from broker.mqtt import (
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Properties,
    ReasonCode,
    Will,
)
from tests.node.stored_site import (
    CHEAP,
    PASSWORD,
    Opened,
    Site,
    data,
    data_of,
    finish,
    running_site,
)
from tests.scram_peer import Refused, ScramPeer

DENIED = ReasonCode.NOT_AUTHORIZED
AGAIN = ReasonCode.REAUTHENTICATE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def opened(site: Site) -> Iterator[Opened]:
    clients = Opened(site)
    yield clients
    clients.close()


@pytest.mark.parametrize("node", [0, 1])
def test_scram(opened: Opened, node: int) -> None:
    client, answer = opened.scram("olga", node=node)
    assert answer.reason_code == 0
    assert client.subscribe("any/#", "$SYS/#").reason_codes == [0, DENIED]  # in its group
    client, answer = opened.scram("ann", node=node)
    assert answer.reason_code == 0
    assert client.subscribe("home/ann/#", "any/#").reason_codes == [0, DENIED]
    _, answer = opened.scram("ann", node=node, will=Will("home/bob/x", b"", 0, False))
    assert answer.reason_code == DENIED


def test_scram_and_the_wrong_ones(site: Site, opened: Opened) -> None:
    site.put("imported", hash=CHEAP)
    site.put("sleeper", password=PASSWORD, enabled=False)
    answers = []
    for user, password in [
        ("ann", "wrong"), ("nobody", PASSWORD), ("imported", PASSWORD), ("sleeper", PASSWORD),
    ]:  # fmt: skip
        _, answer = opened.scram(user, password)
        answers.append(answer)
    assert answers == [
        Connack(False, ReasonCode.BAD_USER_NAME_OR_PASSWORD, Properties(reason_string="e=invalid-proof"))
    ] * len(answers)
    denied = [event for event in site.nodes[0].events("denied") if event["event"] == "connect"]
    assert [event["username"] for event in denied[-4:]] == ["ann", "nobody", "imported", "sleeper"]
    assert opened.code("imported", PASSWORD) == 0
    text = site.nodes[0].get("/metrics").text
    assert 'moorline_authentications_total{result="bad_user_name_or_password"} ' in text


def test_unknown_users_have_a_salt_of_their_own_that_stays(site: Site, opened: Opened) -> None:
    salts = []
    for user, node in [("phantom", 0), ("phantom", 1), ("spectre", 0), ("ann", 0), ("ann", 1)]:
        client = opened.raw(node=node)
        client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(f"n,,n={user},r=abc".encode())))
        found = re.fullmatch(r"r=abc[^,]+,s=([^,]+),i=4096", data_of(client.expect(Auth)).decode())
        assert found is not None
        salts.append(found[1])
    assert salts[0] == salts[1]
    assert salts[3] == salts[4]
    assert len(set(salts)) == 3
    assert {len(salt) for salt in salts} == {24}


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("p=tls-unique,,n=ann,r=abc", "e=channel-binding-not-supported"),
        ("n,,m=x,n=ann,r=abc", "e=extensions-not-supported"),
        ("n,a=bob,n=ann,r=abc", "e=other-error"),
        ("", "e=other-error"),
        ("n,,n=a=nn,r=abc", "e=invalid-username-encoding"),
    ],
)
def test_scram_refuses_what_it_does_not_do(opened: Opened, first: str, reason: str) -> None:
    client = opened.raw()
    client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(first.encode())))
    assert client.wait_closed() == [Connack(False, DENIED, Properties(reason_string=reason))]


def test_scram_again_on_an_open_connection(site: Site, opened: Opened) -> None:
    client, answer = opened.scram("ann")
    assert answer.reason_code == 0
    peer = ScramPeer("ann", PASSWORD)
    client.send(Auth(AGAIN, data(peer.first())))
    proof = peer.final(data_of(client.expect(Auth)))
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(proof)))
    done = client.expect(Auth)
    assert done.reason_code == ReasonCode.SUCCESS
    peer.check(data_of(done))
    assert client.ping() == []
    for user, password in [("bob", PASSWORD), ("ann", "wrong")]:
        client, _ = opened.scram("ann")
        peer = ScramPeer(user, password)
        client.send(Auth(AGAIN, data(peer.first())))
        answer = finish(client, peer)
        assert isinstance(answer, Disconnect)
        assert answer.reason_code == DENIED
    events = [event for event in site.nodes[0].events("denied") if event["event"] == "authenticate"]
    assert [event["username"] for event in events] == ["ann", "ann"]


def test_a_server_that_knows_nothing_is_found_out(opened: Opened) -> None:
    """That the peer of the tests looks at the signature at all."""
    client = opened.raw()
    peer = ScramPeer("ann", PASSWORD)
    client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(peer.first())))
    peer.final(data_of(client.expect(Auth)))
    with pytest.raises(Refused):
        peer.check(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
