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
    Publish,
    ReasonCode,
    Will,
)
from tests.node.stored_site import (
    CHEAP,
    FILE,
    PASSWORD,
    Opened,
    Site,
    data,
    data_of,
    filed,
    finish,
    running_site,
    wait,
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
        ("keyed", "wrong"), ("filed", PASSWORD),
    ]:  # fmt: skip
        _, answer = opened.scram(user, password)
        answers.append(answer)
    assert answers == [
        Connack(False, ReasonCode.BAD_USER_NAME_OR_PASSWORD, Properties(reason_string="e=invalid-proof"))
    ] * len(answers)
    denied = [event for event in site.nodes[0].events("denied") if event["event"] == "connect"]
    assert [event["username"] for event in denied[-6:]] == [
        "ann", "nobody", "imported", "sleeper", "keyed", "filed",
    ]  # fmt: skip
    assert opened.code("imported", PASSWORD) == 0
    text = site.nodes[0].get("/metrics").text
    assert 'moorline_authentications_total{result="bad_user_name_or_password"} ' in text


def test_keys_from_elsewhere(site: Site, opened: Opened) -> None:
    """Of a password file, and of another broker: who has come with them comes in by them, and by password."""
    name, hashed, keys = filed("newcomer").strip().split(":", 2)
    site.put(name, hash=hashed, scram=keys)
    (record,) = [each for each in site.ask("GET", "/export/users").json()["records"] if each["name"] == name]
    order = {"format": 1, "id": "0" * 16, "records": [{**record, "name": "mover"}]}
    assert site.ask("POST", "/import", order).json()["access"]["users"]["made"] == 1
    for user in (name, "mover"):
        assert opened.scram(user, node=1)[1].reason_code == 0
        assert opened.code(user, PASSWORD) == 0
        assert opened.scram(user, "wrong")[1].reason_code == 0x86
    site.put(name, hash=hashed)  # which is all there is of it then
    wait(lambda: opened.scram(name)[1].reason_code == 0x86)
    for fields, reason in [
        ({"hash": hashed, "scram": keys[:-4]}, "scram: "),
        ({"scram": keys}, "scram: keys go with a hash"),
        ({"password": PASSWORD, "scram": keys}, "scram: keys go with a hash"),
    ]:
        refusal = site.ask("PUT", f"/users/{name}", fields)
        assert (refusal.status_code, reason in refusal.text, keys in refusal.text) == (422, True, False)


def test_unknown_users_have_a_salt_of_their_own_that_stays(site: Site, opened: Opened) -> None:
    salts = []
    for user, node in [
        ("phantom", 0), ("phantom", 1), ("spectre", 0), ("ann", 0), ("ann", 1),
        ("keyed", 0), ("keyed", 1), ("filed", 0), ("filed", 1),
    ]:  # fmt: skip
        client = opened.raw(node=node)
        client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(f"n,,n={user},r=abc".encode())))
        found = re.fullmatch(r"r=abc[^,]+,s=([^,]+),i=4096", data_of(client.expect(Auth)).decode())
        assert found is not None
        salts.append(found[1])
    assert salts[0] == salts[1]
    for first in (3, 5, 7):
        assert salts[first] == salts[first + 1]
    assert len(set(salts)) == 5
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


@pytest.mark.parametrize("node", [0, 1])
def test_users_of_the_password_file(site: Site, opened: Opened, node: int) -> None:
    client, answer = opened.scram("keyed", node=node)
    assert answer.reason_code == 0
    assert client.subscribe("home/keyed/#", "any/#").reason_codes == [0, DENIED]
    peer = ScramPeer("keyed", PASSWORD)
    client.send(Auth(AGAIN, data(peer.first())))
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(peer.final(data_of(client.expect(Auth))))))
    done = client.expect(Auth)
    assert done.reason_code == ReasonCode.SUCCESS
    peer.check(data_of(done))
    assert opened.code("keyed", PASSWORD, node=node) == 0
    assert opened.code("filed", PASSWORD, node=node) == 0


def test_who_is_in_the_file_is_judged_by_the_file(site: Site, opened: Opened) -> None:
    """By keys as by passwords; without keys there, those in Redis don't count."""
    try:
        site.put("filed", password="in Redis")
        site.put("keyed", password="in Redis")
        for user in ("filed", "keyed"):
            assert opened.scram(user, "in Redis")[1].reason_code == 0x86
            assert opened.code(user, "in Redis") == 0x86
        assert opened.scram("keyed")[1].reason_code == 0
    finally:
        for user in ("filed", "keyed"):
            site.delete(user)


def test_another_password_in_the_file_sends_away_who_came_by_the_keys(site: Site, opened: Opened) -> None:
    lines = {name: filed(name) for name in ("changed", "deleted", "stays")}
    site.replace_passwords(FILE + "".join(lines.values()))
    try:
        clients = {name: [opened.scram(name, node=node) for node in (0, 1)] for name in lines}
        clients["mute"] = [opened.scram("ann", node=node) for node in (0, 1)]
        assert {answer.reason_code for each in clients.values() for _, answer in each} == {0}
        begun = opened.raw()
        peer = ScramPeer("changed", PASSWORD)
        begun.send(Connect("begun", MQTT_5, True, 0, None, None, None, data(peer.first())))
        final = peer.final(data_of(begun.expect(Auth)))
        site.replace_passwords(FILE + filed("changed", "another") + lines["stays"])
        for name in ("changed", "deleted"):
            for client, _ in clients[name]:
                assert client.wait_refused() == DENIED
        for name in ("stays", "mute"):
            assert [client.ping() for client, _ in clients[name]] == [[], []]
        begun.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(final)))
        assert begun.expect(Connack).reason_code == 0x86
        for name, password, code in [
            ("changed", PASSWORD, 0x86), ("changed", "another", 0), ("deleted", PASSWORD, 0x86),
        ]:  # fmt: skip
            assert opened.scram(name, password, node=1)[1].reason_code == code
    finally:
        site.replace_passwords(FILE)


def test_a_listener_that_asks_the_file_has_a_mount_point_for_them(site: Site, opened: Opened) -> None:
    port = site.port_of_files()
    assert opened.scram("ann", port=port)[1].reason_code == 0x86  # as by her password
    assert opened.scram("filed", port=port)[1].reason_code == 0x86
    watcher = opened("ann", node=1)
    watcher.subscribe("shared/#")
    client, answer = opened.scram("keyed", port=port, will=Will("last", b"will", 0, False))
    assert answer.reason_code == 0
    assert client.subscribe("#", "$SYS/#").reason_codes == [0, ReasonCode.TOPIC_FILTER_INVALID]
    peer = ScramPeer("keyed", PASSWORD)
    client.send(Auth(AGAIN, data(peer.first())))
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(peer.final(data_of(client.expect(Auth))))))
    assert client.expect(Auth).reason_code == ReasonCode.SUCCESS
    client.send(Publish("t", b"1", 0, False, False, 0))
    assert client.message().topic == "t"
    assert watcher.message().topic == "shared/t"
    client.close()
    assert watcher.message().topic == "shared/last"
    with_sys = Will("$SYS/x", b"", 0, False)
    assert opened.scram("keyed", port=port, will=with_sys)[1].reason_code == DENIED


def test_an_unknown_method_is_recorded(site: Site, opened: Opened) -> None:
    """And is no guess; AUTH before anything else is no beginning."""
    client = opened.raw()
    other = Properties(authentication_method="SCRAM-SHA-1", authentication_data=b"n,,n=ann,r=x")
    client.send(Connect("s", MQTT_5, True, 0, "ann", None, None, other))
    assert client.expect(Connack).reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
    denied = [event for event in site.nodes[0].events("denied") if event["event"] == "connect"]
    assert denied[-1]["reason_code"] == "bad_authentication_method"
    client = opened.raw()
    client.send(Auth(AGAIN, data(b"n,,n=ann,r=x")))
    assert client.wait_closed() == []


def test_who_is_in_the_middle_is_counted(site: Site, opened: Opened) -> None:
    """And has all the time there is for a CONNECT; then as everybody else."""

    def waits(count: int) -> None:
        lines = {f"moorline_connections_{gauge} {count}.0" for gauge in ("authenticating", "half_open")}
        wait(lambda: lines <= set(site.nodes[0].get("/metrics").text.splitlines()))

    waits(0)
    client, peer = opened.raw(), ScramPeer("ann", PASSWORD)
    client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(peer.first())))
    final = peer.final(data_of(client.expect(Auth)))
    waits(1)
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, data(final)))
    assert client.expect(Connack).reason_code == 0
    waits(0)
    client.send(Auth(AGAIN, data(ScramPeer("ann", PASSWORD).first())))
    client.expect(Auth)
    assert client.ping() == []
    waits(0)


def test_a_server_that_knows_nothing_is_found_out(opened: Opened) -> None:
    """That the peer of the tests looks at the signature at all."""
    client = opened.raw()
    peer = ScramPeer("ann", PASSWORD)
    client.send(Connect("s", MQTT_5, True, 0, None, None, None, data(peer.first())))
    peer.final(data_of(client.expect(Auth)))
    with pytest.raises(Refused):
        peer.check(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
