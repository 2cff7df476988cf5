"""What our code expects of a Kubernetes API, of the stand-in and of a real one alike."""

import time
from typing import Any

import anyio
import pytest

from cluster.kubernetes import upkeep
from cluster.kubernetes.api import Call, Event, Json
from cluster.kubernetes.errors import Conflict, NotFound
from cluster.kubernetes.lease import LeaseTurn
from cluster.kubernetes.pod import DELETION_COST, LOWEST_COST, SERVING, Pod, State, parse_pod
from cluster.kubernetes.upkeep import PodUpkeep
from tests.kubernetes.conftest import NAMESPACE, Client

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
WAIT_SECONDS = 10.0
LEASE_SECONDS = 15


def condition_of(pod: Json, kind: str = SERVING) -> Json | None:
    """None if there is none of that type."""
    conditions: list[Json] = (pod.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), None)


def costs(pod: Json) -> str | None:
    """The annotation."""
    found: str | None = (pod["metadata"].get("annotations") or {}).get(DELETION_COST)
    return found


async def until(client: Client, condition: Any) -> Json:
    """The pod, once it is so."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        pod = await client.pod()
        if condition(pod):
            return pod
        assert time.monotonic() < deadline, pod
        await anyio.sleep(0.05)


# Objects


async def test_what_is_not_there(any_client: Client) -> None:
    with pytest.raises(NotFound):
        await any_client.pod()
    with pytest.raises(NotFound):
        await any_client.patch({"metadata": {"annotations": {"a": "b"}}})
    assert ("get", "404") in any_client.codes


async def test_list_by_field_and_by_label(any_client: Client) -> None:
    await any_client.create_pod(labels={"of": any_client.name})
    for selector, count in (
        ({"fieldSelector": f"metadata.name={any_client.name}"}, 1),
        ({"fieldSelector": "metadata.name=somebody-else"}, 0),
        ({"labelSelector": f"of={any_client.name}"}, 1),
        ({"labelSelector": "of=nobody"}, 0),
    ):
        listed = await any_client.api.request(Call("list", "pods", NAMESPACE, query=selector))
        assert len(listed["items"]) == count, selector
        assert listed["metadata"]["resourceVersion"]


async def test_a_patch_merges_and_one_that_changes_nothing_is_none(any_client: Client) -> None:
    await any_client.create_pod()
    await any_client.patch({"metadata": {"annotations": {"a": "1"}}})
    first = await any_client.patch({"metadata": {"annotations": {"b": "2"}}})
    assert {"a": "1", "b": "2"}.items() <= first["metadata"]["annotations"].items()
    again = await any_client.patch({"metadata": {"annotations": {"b": "2"}}})
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_the_uid_is_a_precondition(any_client: Client) -> None:
    pod = await any_client.create_pod()
    body: Json = {"metadata": {"uid": pod["metadata"]["uid"], "annotations": {"a": "1"}}}
    assert (await any_client.patch(body))["metadata"]["annotations"]["a"] == "1"
    body["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000", "annotations": {"a": "2"}}
    with pytest.raises(Conflict):
        await any_client.patch(body)
    assert (await any_client.pod())["metadata"]["annotations"]["a"] == "1"


async def test_conditions_are_merged_by_type(any_client: Client) -> None:
    await any_client.create_pod()
    for kind, status in ((SERVING, "True"), ("moorline.io/other", "True"), (SERVING, "False")):
        patch = {"status": {"conditions": [{"type": kind, "status": status}]}}
        pod = await any_client.patch(patch, "pods/status")
    serving, other = condition_of(pod), condition_of(pod, "moorline.io/other")
    assert serving is not None
    assert other is not None
    assert (serving["status"], other["status"]) == ("False", "True")


async def test_status_and_the_rest_are_apart(any_client: Client) -> None:
    await any_client.create_pod()
    both = {
        "metadata": {"annotations": {"a": "1"}},
        "status": {"conditions": [{"type": SERVING, "status": "True"}]},
    }
    assert condition_of(await any_client.patch(both)) is None
    assert condition_of(await any_client.patch(both, "pods/status")) is not None


# Watching


async def test_a_watch_goes_on_where_the_list_ended(any_client: Client) -> None:
    await any_client.create_pod()
    query = {"fieldSelector": f"metadata.name={any_client.name}"}
    listed = await any_client.api.request(Call("list", "pods", NAMESPACE, query=query))
    await any_client.patch({"metadata": {"annotations": {"n": "1"}}})  # between list and watch
    seen: list[Event] = []
    since = query | {"resourceVersion": listed["metadata"]["resourceVersion"]}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(any_client.api.watch, Call("watch", "pods", NAMESPACE, query=since), 3, seen.append)
        await any_client.patch({"metadata": {"annotations": {"n": "2"}}})
        await any_client.delete()
        await any_client.let_go()
    changes = [event for event in seen if event.kind != "BOOKMARK"]
    assert [event.kind for event in changes] == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [event.object["metadata"]["annotations"]["n"] for event in changes] == ["1", "2", "2", "2"]
    assert [parse_pod(event.object).is_being_deleted for event in changes] == [False, False, True, True]
    assert len({event.version for event in changes}) == 4


# The lease


class Clock:
    """Our own seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _turn(client: Client, us: str, clock: Clock) -> LeaseTurn:
    return LeaseTurn(client.api, NAMESPACE, client.name, us, LEASE_SECONDS, clock)


async def _spec(client: Client) -> Json:
    lease = await client.api.request(Call("get", "leases", NAMESPACE, client.name))
    spec: Json = lease["spec"]
    return spec


async def test_one_has_the_turn_and_the_next_gets_it_at_once(any_client: Client) -> None:
    clock = Clock()
    first, second = _turn(any_client, "first", clock), _turn(any_client, "second", clock)
    assert [await first.hold(), await second.hold(), await first.hold()] == [True, False, True]
    assert (await _spec(any_client))["holderIdentity"] == "first"
    await second.release()  # which is not its own
    assert not await second.hold()
    await first.release()
    assert await second.hold()
    spec = await _spec(any_client)
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 2)


async def test_a_turn_is_taken_from_who_does_not_renew_it(any_client: Client) -> None:
    """By what the other has seen, whatever times the holder has written."""
    clock = Clock()
    first, second = _turn(any_client, "first", clock), _turn(any_client, "second", clock)
    assert await first.hold()
    clock.now = 1000.0  # nobody has looked for long: that is no proof
    assert not await second.hold()
    clock.now += LEASE_SECONDS - 1
    assert await first.hold()
    assert not await second.hold()
    clock.now += LEASE_SECONDS - 1
    assert not await second.hold()
    clock.now += 1
    assert await second.hold()
    assert not await first.hold()


async def test_of_two_who_take_it_at_once_one_gets_it(any_client: Client) -> None:
    clock = Clock()
    turns = [_turn(any_client, f"n{number}", clock) for number in range(3)]
    held: list[bool] = []

    async def take(turn: LeaseTurn) -> None:
        held.append(await turn.hold())

    async with anyio.create_task_group() as tasks:
        for turn in turns:
            tasks.start_soon(take, turn)
    again = [await turn.hold() for turn in turns]
    assert sum(held) <= 1
    assert sum(again) == 1


async def test_an_update_of_an_old_version_is_refused(any_client: Client) -> None:
    body: Json = {"metadata": {"name": any_client.name}, "spec": {"holderIdentity": "x"}}
    made = await any_client.api.request(Call("create", "leases", NAMESPACE, body=body))
    with pytest.raises(Conflict):
        await any_client.api.request(Call("create", "leases", NAMESPACE, body=body))
    await any_client.api.request(Call("update", "leases", NAMESPACE, any_client.name, made))
    made["spec"]["holderIdentity"] = "y"
    await any_client.api.request(
        Call("update", "leases", NAMESPACE, any_client.name, await _lease(any_client))
    )
    stale = made | {"metadata": made["metadata"] | {"resourceVersion": "1"}}
    with pytest.raises(Conflict):
        await any_client.api.request(Call("update", "leases", NAMESPACE, any_client.name, stale))


async def _lease(client: Client) -> Json:
    return await client.api.request(Call("get", "leases", NAMESPACE, client.name))


# Our own pod


class Own:
    """A process that says how it is, and what it was told."""

    def __init__(self) -> None:
        self.state = State(7, is_ready=True, is_draining=False)
        self.pods: list[Pod] = []
        self.deletions = 0

    def on_deleted(self) -> None:
        """Called at least once."""
        self.deletions += 1

    async def run(self, client: Client, interval_seconds: float = 0.1) -> None:
        """As the process does."""
        identity = await client.identity()
        await PodUpkeep(
            client.api, identity, interval_seconds, lambda: self.state, self.on_deleted, self.pods.append
        ).run()


async def test_what_the_pod_says_of_us(any_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "RESTORE_SECONDS", 0.5)
    await any_client.create_pod(labels={"topology.kubernetes.io/zone": "z1"})
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, any_client)
        pod = await until(any_client, lambda pod: costs(pod) == "7" and condition_of(pod))
        serving = condition_of(pod)
        assert serving is not None
        assert (serving["status"], serving["reason"]) == ("True", "Serving")
        assert own.pods[-1].labels["topology.kubernetes.io/zone"] == "z1"
        own.state = State(1000, is_ready=False, is_draining=False, reasons=("redis: away",))
        pod = await until(any_client, lambda pod: costs(pod) == "1000" and condition_of(pod) != serving)
        serving = condition_of(pod)
        assert serving is not None
        assert (serving["status"], serving["message"]) == ("False", "redis: away")
        overwritten = {"status": {"conditions": [{"type": SERVING, "status": "True"}]}}
        await any_client.patch(overwritten, "pods/status")
        await until(any_client, lambda pod: (condition_of(pod) or {}).get("status") == "False")
        assert own.deletions == 0
        await any_client.delete()
        await until(any_client, lambda _: own.deletions)
        own.state = State(900, is_ready=False, is_draining=True)
        await until(any_client, lambda pod: costs(pod) == str(LOWEST_COST))
        await any_client.let_go()
        tasks.cancel_scope.cancel()


async def test_a_pod_without_the_gate_gets_no_condition(any_client: Client) -> None:
    await any_client.create_pod(gate=False)
    own = Own()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own.run, any_client)
        await until(any_client, lambda pod: costs(pod) == "7")
        own.state = State(7, is_ready=False, is_draining=True)
        pod = await until(any_client, lambda pod: costs(pod) == str(LOWEST_COST))
        assert condition_of(pod) is None
        tasks.cancel_scope.cancel()
