"""The dashboard's files: all of them, whole, small, kept by browsers, and from nowhere else."""

import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

import broker.admin
from broker.admin import front_routes, serve_admin
from broker.admin.door import Door
from broker.admin.pages import POLICY
from broker.observability.health import Health
from broker.observability.metrics import Counters, Tally
from broker.settings import Address
from tests.tools import NO_TLS

DIRECTORY = Path(broker.admin.__file__).parent / "dashboard"
VENDOR = DIRECTORY / "vendor"
ROOT = Path(broker.__file__).parent.parent
FIRST_PAINT_BYTES = 40_000
LINES_MAXIMUM = 500
LINE_LENGTH = 118

pytestmark = pytest.mark.anyio
OWN = [
    path
    for path in sorted(DIRECTORY.rglob("*"))
    if path.suffix in {".js", ".css"} and VENDOR not in path.parents
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """With tokens: the files are open all the same."""
    door = Door([], Tally())
    async with anyio.create_task_group() as tasks:
        address: Address = await tasks.start(
            serve_admin, Address("127.0.0.1", 0), Health(), Counters(), front_routes(door), door
        )
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{address.port}", trust_env=False, verify=NO_TLS
        ) as client:
            yield client
        tasks.cancel_scope.cancel()


def linked(page: str) -> list[str]:
    """What the first page names."""
    return re.findall(r'(?:href|src)="(/[^"]*)"', page)


async def test_the_first_page_is_asked_for_anew(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text), "nothing inline"


async def test_what_it_is_made_of_is_kept(client: httpx.AsyncClient) -> None:
    for path in linked((await client.get("/")).text):
        file = await client.get(path)
        assert file.is_success, path
        assert "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
        older = await client.get(re.sub(r"(/dashboard/)\w+", r"\1old", path))
        assert (older.content, older.headers["cache-control"]) == (file.content, "no-store")


async def test_it_is_small(client: httpx.AsyncClient) -> None:
    """All that the overview needs, as it goes over the network."""
    page = await client.get("/")
    sizes = {path: int((await client.get(path)).headers["content-length"]) for path in linked(page.text)}
    assert sum(sizes.values()) + int(page.headers["content-length"]) < FIRST_PAINT_BYTES


async def test_only_what_is_there(client: httpx.AsyncClient) -> None:
    digest = linked((await client.get("/")).text)[0].split("/")[2]
    for path in ("index.html", "%2e%2e/pages.py", "pages", "", "none.js", "vendor"):
        assert (await client.get(f"/dashboard/{digest}/{path}")).status_code == 404, path
    assert (await client.post("/")).status_code == 401


async def test_who_can_not_unpack_gets_it_whole(client: httpx.AsyncClient) -> None:
    path = linked((await client.get("/")).text)[1]
    whole = await client.get(path, headers={"Accept-Encoding": "identity"})
    packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in whole.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert whole.content == packed.content == (DIRECTORY / path.split("/", 3)[3]).read_bytes()
    assert len(gzip.compress(whole.content, 9)) >= int(packed.headers["content-length"])


def test_every_module_that_is_imported_is_there() -> None:
    for file in OWN:
        for target in re.findall(r'(?:from|import) "(\.[^"]+)"', file.read_text()):
            assert (file.parent / target).is_file(), (file.name, target)


@pytest.mark.parametrize("file", OWN, ids=lambda file: str(file.relative_to(DIRECTORY)))
def test_files_are_small_and_make_no_markup_of_data(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) < LINES_MAXIMUM
    assert max(map(len, text.splitlines())) <= LINE_LENGTH
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "no other hosts"


def test_what_others_have_written_is_what_they_have_published() -> None:
    """Version, origin, digest and licence of each; and the client is the one that tests/e2e use."""
    told = json.loads((VENDOR / "vendor.json").read_text())
    assert {*told, "vendor.json"} == {path.name for path in VENDOR.iterdir()} - {
        each["licences"] for each in told.values()
    }
    for name, each in told.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == each["sha256"]
        assert each["package"] in (VENDOR / each["licences"]).read_text()
        assert each["version"] in each["origin"]
    lock = json.loads((ROOT / "tests/e2e/package-lock.json").read_text())
    assert lock["packages"]["node_modules/mqtt"]["version"] == told["mqtt.esm.js"]["version"]


def test_all_of_it_is_packaged() -> None:
    patterns = re.search(r'^"broker\.admin" = \[(.*)\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert patterns is not None
    assert patterns[1] == '"dashboard/**"'
