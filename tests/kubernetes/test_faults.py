"""A server that is slow, refuses, hangs, drops and forgets: what becomes of our requests."""

import logging
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from cluster.kubernetes import backoff, upkeep
from cluster.kubernetes.api import THREADS, Call, Event
from cluster.kubernetes.environment import PodIdentity
from cluster.kubernetes.errors import ApiAway, Forbidden, Refused, TooManyRequests
from cluster.kubernetes.pod import Pod, State
from cluster.kubernetes.watching import PodWatch
from tests.kubernetes.conftest import NAMESPACE, TIMEOUT_SECONDS, Client, client_of
from tests.kubernetes.standin import Faults, StandIn
from tests.kubernetes.test_contract import Own, condition_of, costs, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(40)]
WAIT_SECONDS = 8.0


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(upkeep, "FORBIDDEN_SECONDS", 0.3)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The lines so far that contain a text."""
    caplog.set_level(logging.INFO)
    return lambda text: [record.getMessage() for record in caplog.records if text in record.getMessage()]


async def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await anyio.sleep(0.02)


# Requests


@pytest.mark.parametrize("fault", ["hang", "dribble"])
async def test_a_server_that_hangs_costs_the_timeout_and_few_threads(
    client: Client, standin: StandIn, fault: str, log: Callable[[str], list[str]]
) -> None:
    await client.create_pod()
    setattr(standin.faults, fault, True)
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(3 * THREADS):
            tasks.start_soon(_expect_away, client)
    assert time.monotonic() - started < TIMEOUT_SECONDS + 1
    assert [code for verb, code in client.codes if verb == "get"].count("busy") == 2 * THREADS
    assert len(log("API fails")) == 1
    await _until(lambda: client.api.threads.running == 0)  # also while the server goes on like that
    standin.faults = Faults()
    await client.pod()
    assert len(log("is back")) == 1


async def _expect_away(client: Client) -> None:
    with pytest.raises(ApiAway):
        await client.pod()


async def test_the_loop_goes_on_while_a_request_hangs(client: Client, standin: StandIn) -> None:
    standin.faults.hang = True
    late = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_away, client)
        for _ in range(20):
            before = time.monotonic()
            await anyio.sleep(0.02)
            late.append(time.monotonic() - before)
    assert max(late) < 0.2


async def test_an_outage_is_told_once(
    client: Client, standin: StandIn, log: Callable[[str], list[str]]
) -> None:
    await client.create_pod()
    for _ in range(2):
        standin.faults.unavailable = True
        for _ in range(3):
            await _expect_away(client)
        standin.faults.unavailable = False
        await client.pod()
    assert (len(log("API fails")), len(log("is back"))) == (2, 2)
    assert client.codes.count(("get", "503")) == 6


async def test_what_the_role_must_grant_is_said_once(
    client: Client, standin: StandIn, log: Callable[[str], list[str]]
) -> None:
    await client.create_pod()
    standin.faults.forbidden = {("patch", "pods/status")}
    for _ in range(2):
        with pytest.raises(Forbidden):
            await client.patch({"status": {}}, "pods/status")
    (line,) = log("refuses")
    rule = 'apiGroups: [""], resources: ["pods/status"], verbs: ["patch"] in namespace default'
    assert f"must grant {rule}" in line


async def test_retry_after_is_told(client: Client, standin: StandIn) -> None:
    standin.faults.too_many, standin.faults.retry_after_seconds = 1, 7
    with pytest.raises(TooManyRequests) as refusal:
        await client.pod()
    assert refusal.value.retry_after_seconds == 7
    assert len(standin.requests("get")) == 1  # the client's library has not tried again by itself


async def test_nobody_there(tmp_path: Path) -> None:
    client = client_of(StandIn().write_kubeconfig(tmp_path / "kubeconfig"))
    await _expect_away(client)
    assert client.codes == [("get", "error")]


async def test_what_is_no_json(client: Client, standin: StandIn) -> None:
    await client.create_pod()
    standin.faults.nonsense = True
    with pytest.raises(Refused, match="Please log in"):
        await client.pod()
    with pytest.raises(Refused, match="Please log in"):
        await client.api.watch(Call("watch", "pods", NAMESPACE), 1, _unexpected)
    assert client.codes[1:] == [("get", "nonsense"), ("watch", "nonsense")]


def _unexpected(event: Event) -> None:
    pytest.fail(f"there is no such event: {event}")


# The watch


async def _watched(client: Client) -> tuple[PodWatch, list[Pod | None]]:
    seen: list[Pod | None] = []
    await client.create_pod()
    return PodWatch(client.api, await client.identity(), seen.append), seen


async def _annotate(client: Client, cost: str) -> None:
    await client.patch({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}})


def _last_cost(seen: list[Pod | None]) -> str | None:
    return seen[-1].deletion_cost if seen and seen[-1] is not None else None


async def test_a_watch_that_is_cut_in_the_middle_of_an_event_misses_nothing(
    client: Client, standin: StandIn
) -> None:
    watch, seen = await _watched(client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await _until(lambda: standin.watches)
        standin.faults.watch_ends = 2
        for cost in ("1", "2", "3"):
            await _annotate(client, cost)
            await _until(lambda cost=cost: _last_cost(seen) == cost)  # type: ignore[misc]  # bound as it is now
        tasks.cancel_scope.cancel()
    assert len(standin.requests("list")) == 1  # it went on from where it was
    assert len(standin.requests("watch")) == 3


async def test_a_watch_from_a_forgotten_version_lists_again(client: Client, standin: StandIn) -> None:
    watch, seen = await _watched(client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await _until(lambda: standin.watches)
        with standin.cluster.lock:
            standin.cluster.patch("pods", NAMESPACE, client.name, {"metadata": {"annotations": {"x": "y"}}})
            standin.cluster.compact()  # 410, and the change is not in the history
        await _annotate(client, "5")
        await _until(lambda: _last_cost(seen) == "5")
        tasks.cancel_scope.cancel()
    assert len(standin.requests("list")) == 2


async def test_bookmarks_keep_a_quiet_watch_young(client: Client, standin: StandIn) -> None:
    """Others change while nothing happens to our pod; without bookmarks its version would be forgotten."""
    standin.bookmark_seconds = 0.05
    watch, seen = await _watched(client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await _until(lambda: standin.watches)
        other = {"metadata": {"name": "other"}, "spec": {}}
        with standin.cluster.lock:
            standin.cluster.create("leases", NAMESPACE, other)
        await anyio.sleep(0.3)
        with standin.cluster.lock:
            standin.cluster.compacted = standin.cluster.version
        standin.faults.watch_ends = 1
        await _annotate(client, "6")
        await _until(lambda: _last_cost(seen) == "6")
        tasks.cancel_scope.cancel()
    assert len(standin.requests("list")) == 1


async def test_a_watch_that_ends_at_once_does_not_spin(client: Client, standin: StandIn) -> None:
    watch, _ = await _watched(client)
    standin.faults.unavailable = True  # it ends those that are open, too
    with anyio.move_on_after(1.5):
        await watch.run()
    times = [each.at for each in standin.requests("list")]
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) < 12
    assert gaps[-1] > 2 * gaps[0]


async def test_another_pod_with_our_name_is_none(client: Client) -> None:
    watch, seen = await _watched(client)
    stranger = PodWatch(client.api, PodIdentity(NAMESPACE, client.name, "another"), seen.append)
    for each, expected in ((watch, True), (stranger, False)):
        with anyio.move_on_after(0.3):
            await each.run()
        assert (seen[-1] is not None) is expected


# The pod


async def test_what_is_published_after_an_outage_is_what_is_so_then(client: Client, standin: StandIn) -> None:
    await client.create_pod()
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, client)
        await until(client, lambda pod: costs(pod) == "7" and condition_of(pod))
        standin.faults.unavailable = True
        own.state = State(5000, is_ready=False, is_draining=False)
        await anyio.sleep(1)
        standin.faults.unavailable = False
        await until(
            client, lambda pod: costs(pod) == "5000" and (condition_of(pod) or {}).get("status") == "False"
        )
        tasks.cancel_scope.cancel()
    assert own.deletions == 0


async def test_a_role_without_the_status_still_allows_the_annotation(
    client: Client, standin: StandIn
) -> None:
    await client.create_pod()
    standin.faults.forbidden = {("patch", "pods/status")}
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, client)
        await until(client, lambda pod: costs(pod) == "7")
        await anyio.sleep(1)
        assert len(standin.requests("patch", "pods/status")) <= 5
        standin.faults.forbidden = set()
        await until(client, condition_of)
        tasks.cancel_scope.cancel()


async def test_a_server_that_has_lost_its_data_drains_nobody(client: Client, standin: StandIn) -> None:
    await client.create_pod()
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, client)
        await until(client, lambda pod: costs(pod) == "7")
        with standin.cluster.lock:
            standin.cluster.objects.clear()
            standin.cluster.compact()
        await _until(lambda: len(standin.requests("list")) > 1)
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    assert own.deletions == 0


async def test_patches_wait_as_long_as_they_are_told(client: Client, standin: StandIn) -> None:
    await client.create_pod(gate=False)
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, client)
        await until(client, lambda pod: costs(pod) == "7")
        await _until(lambda: standin.watches)
        standin.faults.too_many, standin.faults.retry_after_seconds = 1, 2
        own.state = State(5000, is_ready=True, is_draining=False)
        objects = standin.cluster.objects
        await _until(lambda: costs(objects["pods", NAMESPACE, client.name]) == "5000")
        tasks.cancel_scope.cancel()
    refused, done = standin.requests("patch")[-2:]
    assert (refused.code, done.code) == (429, 200)
    assert done.at - refused.at >= 2
