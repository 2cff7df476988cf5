"""Servers for the tests of this directory: the stand-in always, a real one if KUBE_TEST_KUBECONFIG says."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.kubernetes.api import Api, Call, Json, connect
from cluster.kubernetes.environment import PodIdentity
from tests.kubernetes.standin import StandIn, running_standin

NAMESPACE = "default"
REAL = os.environ.get("KUBE_TEST_KUBECONFIG")
SERVERS = ["stand-in", *(["real"] if REAL else [])]
TIMEOUT_SECONDS = 1.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with running_standin() as standin:
        yield standin


@dataclass
class Client:
    """Our client, and what a test makes with it. `codes`: verb and code of each request."""

    api: Api
    name: str
    codes: list[tuple[str, str]] = field(default_factory=list)

    async def create_pod(self, *, gate: bool = True, labels: dict[str, str] | None = None) -> Json:
        """One that no kubelet ever runs, and that stays while it is being deleted."""
        gates = {"readinessGates": [{"conditionType": "moorline.io/serving"}]} if gate else {}
        body: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": labels or {}, "finalizers": ["moorline.io/test"]},
            "spec": gates
            | {
                "containers": [{"name": "c", "image": "none.invalid/none"}],
                "nodeSelector": {"moorline.io/nowhere": "true"},
                "automountServiceAccountToken": False,
            },
        }
        return await self.api.request(Call("create", "pods", NAMESPACE, body=body))

    async def pod(self) -> Json:
        """As it is now."""
        return await self.api.request(Call("get", "pods", NAMESPACE, self.name))

    async def patch(self, body: Json, resource: str = "pods") -> Json:
        """As we do it."""
        return await self.api.request(Call("patch", resource, NAMESPACE, self.name, body))

    async def delete(self, resource: str = "pods") -> Json:
        """As anybody may."""
        return await self.api.request(Call("delete", resource, NAMESPACE, self.name))

    async def let_go(self) -> Json:
        """The end of a pod that is being deleted."""
        return await self.patch({"metadata": {"finalizers": None}})

    async def identity(self) -> PodIdentity:
        """Of the pod."""
        return PodIdentity(NAMESPACE, self.name, (await self.pod())["metadata"]["uid"])


def client_of(kubeconfig: Path) -> Client:
    """With names that nobody else has."""
    codes: list[tuple[str, str]] = []
    api = Api(connect(kubeconfig), TIMEOUT_SECONDS, lambda verb, code: codes.append((verb, code)))
    return Client(api, f"moorline-test-{secrets.token_hex(4)}", codes)


@pytest.fixture
def client(standin: StandIn, tmp_path: Path) -> Client:
    """Of the stand-in."""
    return client_of(standin.write_kubeconfig(tmp_path / "kubeconfig"))


@pytest.fixture(params=SERVERS)
async def any_client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    """Of each server there is; what a test leaves on a real one is removed."""
    if request.param == "stand-in":
        with running_standin() as standin:
            yield client_of(standin.write_kubeconfig(tmp_path / "kubeconfig"))
        return
    assert REAL is not None
    client = client_of(Path(REAL))
    yield client
    listed = await client.api.request(Call("list", "pods", NAMESPACE))
    for resource, items in (
        ("pods", listed["items"]),
        ("leases", (await client.api.request(Call("list", "leases", NAMESPACE)))["items"]),
    ):
        for item in items:
            if item["metadata"]["name"] == client.name:
                await client.delete(resource)
                if resource == "pods":
                    await client.let_go()
