"""The pages in docs/ name what the program has: keys, operations, metrics, settings, commands, files."""

import inspect
import re
from pathlib import Path

import pytest

import broker
from broker.observability.merged import worker_metrics
from broker.observability.metrics import Counters
from broker.observability.page import NodeCollector
from broker.settings import setting_names
from cluster.store import keys
from docs.chart import chart_values

ROOT = Path(broker.__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "helm/moorline/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/guides").glob("*.md")),
]
GENERATED = {"configuration.md", "api.md", "metrics.md", "benchmarks.md", "conformance.md"}
WRITTEN_BY_HAND = [page for page in PAGES if page.name not in GENERATED]
LINE_LENGTH = 118
STAND_INS = {
    "prefix": "mq:",
    "bucket": "b",
    "client_id": "<client>",
    "incarnation": "<node>",
    "epoch": "<epoch>",
    "shard": "<shard>",
    "token": b"<token>",
    "name": "<group>/<filter>",
    "chore": "chore",
    "nonce": "<nonce>",
    "slot": "m",
    "tap_id": "<id>",
    "trace_id": "<id>",
    "question_id": "<id>",
    "first": "<first>",
    "node": "<node>",
    "level": "<level>",
}
"""What the page writes for the arguments of a key function."""

EACH_PAGE = pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
FUNCTIONS = [
    (name, function)
    for name, function in inspect.getmembers(keys, inspect.isfunction)
    if function.__module__ == keys.__name__ and not name.startswith("_")
]


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_every_key_function_is_in_the_schema(name: str, function: object) -> None:
    """With the key that it really makes; helpers by name only."""
    assert callable(function)
    parameters = list(inspect.signature(function).parameters)
    page = _page("architecture.md")
    if "prefix" not in parameters:
        assert f"`{name}`" in page
        return
    key = function(*(STAND_INS[parameter] for parameter in parameters))
    text = key.decode() if isinstance(key, bytes) else key
    assert re.search(rf"^\| `{name}` \| `{re.escape(text)}` \|", page, re.MULTILINE), (
        f"no row {name} with {text}"
    )


def test_every_file_of_the_library_is_named() -> None:
    section = _page("architecture.md").partition("## 14.")[2].partition("## 15.")[0]
    named = set(re.findall(r"`(\w+)`", section[section.index("| Files |") :]))
    assert named == {path.stem for path in (ROOT / "cluster/store/lua").glob("*.lua")}


def test_every_metric_that_is_named_exists() -> None:
    families = [*NodeCollector(Counters()).collect(), *worker_metrics([])]
    names = {name for metric in families for name in (metric.name, f"{metric.name}_total")}
    named = {name for page in PAGES for name in re.findall(r"`(moorline_[a-z0-9_]+)`", page.read_text())}
    assert {name for name in named if not re.match(r"moorline_(\d|write|free)", name)} <= names


@EACH_PAGE
def test_every_setting_that_is_named_exists(page: Path) -> None:
    groups = {setting.partition(".")[0] for setting in setting_names()}
    named = set(re.findall(rf"`((?:{'|'.join(groups)})\.[a-z_0-9]+)`", page.read_text()))
    files, values = {"node.lock", "redis.sock"}, {value.path for value in chart_values()}
    assert named - files - values <= set(setting_names())


def test_every_option_of_the_load_generator_is_named() -> None:
    """The options as they stand in the source: the help text wraps."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "loadtest").glob("*.py")))
    options = set(re.findall(r'typer\.Option\(\s*"(?:--[a-z-]+/)?(--[a-z-]+)"', sources))
    assert len(options) > 15
    page = _page("loadtest.md")
    assert not [option for option in options if f"`{option}" not in page and f" {option}" not in page]


@EACH_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        other = (page.parent / file) if file else page
        assert other.is_file(), target
        if anchor:
            assert anchor in _anchors(other.read_text()), target


@EACH_PAGE
def test_lines_are_short(page: Path) -> None:
    """Rows of tables can't be wrapped."""
    lines = page.read_text().splitlines()
    assert not [line for line in lines if len(line) > LINE_LENGTH and not line.startswith("|")]


def _anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
