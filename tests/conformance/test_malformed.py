"""More than a thousand inputs that break the protocol: each costs its own connection and no other
[MQTT 5: 4.13, 3.1.1: 4.8], however the network cuts it up."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from broker.mqtt import Connection, ConnectionLimits, MqttError, Packet
from tests.conformance.flow import Cluster
from tests.conformance.malformed import CASES, TABLES
from tests.conformance.malformed.case import Case, connect, packet, text
from tests.node.wire import WireClient, connected

PINGREQ = packet(0xC0)
AT_ONCE = 64
PING_SECONDS = 2.0
PAUSE_SECONDS = 0.005
LONGEST_SPLIT = 160
"""Bytes from the beginning at which longer inputs are split."""

Way = Callable[[bytes, random.Random], list[bytes]]


def _whole(data: bytes, _: random.Random) -> list[bytes]:
    return [data]


def _split(data: bytes, chance: random.Random) -> list[bytes]:
    if len(data) < 2:
        return [data]
    at = chance.randrange(1, len(data))
    return [data[:at], data[at:]]


def _behind_another(data: bytes, _: random.Random) -> list[bytes]:
    return [PINGREQ + data]


ON_NODES: list[tuple[str, Way]] = [
    ("whole", _whole),
    ("split", _split),
    ("behind another packet", _behind_another),
]


@pytest.fixture(scope="session")
def control(cluster: Cluster) -> Iterator[WireClient]:
    """A client of the node that gets all the inputs; nothing of that may touch it."""
    with connected(cluster.far, "control", keep_alive=60) as client:
        client.timeout_seconds = PING_SECONDS
        yield client


@contextlib.contextmanager
def pinging(client: WireClient) -> Iterator[None]:
    """Meanwhile the client pings without a pause; each PINGRESP has come in time, and nothing else."""
    unexpected: list[object] = []
    is_over = threading.Event()

    def ping() -> None:
        try:
            while not is_over.wait(PAUSE_SECONDS):
                unexpected.extend(client.ping())
        except (AssertionError, ConnectionError) as error:
            unexpected.append(error)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert unexpected == []


def test_there_are_enough() -> None:
    assert len(CASES) >= 400
    assert len({str(case) for case in CASES}) == len(CASES)
    assert sum(case.version < 5 for case in CASES) >= 200


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("way", ON_NODES, ids=lambda way: way[0])
def test_each_closes_its_own_connection(
    cluster: Cluster, control: WireClient, table: str, way: tuple[str, Way]
) -> None:
    """Control client and inputs are on the same node, which is alone or has a neighbour."""
    chance = random.Random(table + way[0])
    cases = [case for case in TABLES[table] if not case.is_first or way[1] is not _behind_another]
    wrong: list[str] = []
    with pinging(control):
        for first in range(0, len(cases), AT_ONCE):
            wrong += _send(cluster.far, cases[first : first + AT_ONCE], way[1], chance)
    assert control.ping() == []
    assert wrong == []


def _send(port: int, cases: list[Case], way: Way, chance: random.Random) -> list[str]:
    """Each over a connection of its own, all at once; what came out other than it should."""
    clients = [WireClient(port, max(case.version, 4)) for case in cases]
    try:
        for number, (case, client) in enumerate(zip(cases, clients, strict=True)):
            if not case.is_first:
                client.send_bytes(connect(case.version, text(f"bad-{number}")))
        for case, client in zip(cases, clients, strict=True):
            if not case.is_first:
                assert client.next().packet_type == 2, case
            with contextlib.suppress(ConnectionError):  # closed before the second half
                for chunk in way(case.data, chance):
                    client.send_bytes(chunk)
        return [wrong for case, client in zip(cases, clients, strict=True) if (wrong := _judge(case, client))]
    finally:
        for client in clients:
            client.close()


def _judge(case: Case, client: WireClient) -> str:
    try:
        packets = client.wait_closed()
    except AssertionError as error:
        return f"{case}: {error}"
    codes = [getattr(each, "reason_code", None) for each in packets if each.packet_type in (2, 14)]
    wanted = [] if case.code is None else [case.code]
    return "" if codes == wanted else f"{case}: {packets} instead of {case.code}"


@pytest.mark.parametrize("table", TABLES)
def test_each_is_noticed_however_it_is_split(table: str) -> None:
    """In two chunks, cut at each byte; byte by byte; behind another packet and before one, in one chunk."""
    wrong = [
        f"{case}: {found}" for case in TABLES[table] if not case.needs_node for found in _misjudged(case)
    ]
    assert wrong == []


def _misjudged(case: Case) -> Iterator[str]:
    data = case.data
    cuts = range(1, min(len(data), LONGEST_SPLIT))
    ways = [[data], [data[at : at + 1] for at in range(len(data))], [data + PINGREQ]]
    ways += [[data[:at], data[at:]] for at in cuts]
    if not case.is_first:
        ways += [[PINGREQ + data], [PINGREQ + data + PINGREQ]]
    for chunks in ways:
        farewell = _farewell(case, chunks)
        if farewell != case.code:
            yield f"{farewell} for {[chunk.hex() for chunk in chunks]}"


def _farewell(case: Case, chunks: list[bytes]) -> int | str | None:
    """The code of the last packet to the client; None if it is closed without one."""
    connection = Connection(ConnectionLimits())
    out: list[Packet] = []
    if not case.is_first:
        connection.receive(connect(case.version, text("c")), out)
        connection.accepted(out)
    try:
        for chunk in chunks:
            connection.receive(chunk, out)
    except MqttError as error:
        last = connection.farewell(error.reason_code)
        if not last:
            return None
        return last[3] if last[0] == 0x20 else last[2]
    return "accepted"
