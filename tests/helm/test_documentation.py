"""README and schema of the chart are those of its values; examples are what the pages say."""

import subprocess
from pathlib import Path

import pytest
import yaml

from docs import chart
from tests.helm.chart import render
from tests.tools import require_tool

EXAMPLES = chart.CHART.parent.parent / "docs" / "kubernetes"


def test_the_readme_is_current() -> None:
    assert chart.README.read_text() == chart.chart_readme(), "run `make docs`"


def test_the_schema_is_current() -> None:
    assert chart.SCHEMA.read_text() == chart.values_schema(), "run `make docs`"


def test_every_value_is_explained() -> None:
    """A leaf without a comment would be missing from README and schema, and so be refused."""
    explained = {value.path for value in chart.chart_values()}
    assert set(chart.RULES) <= explained
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    missing = [path for path in _paths(values) if not _is_covered(path, explained)]
    assert not missing


def _paths(values: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found.append(prefix + name)
        if isinstance(value, dict):
            found += _paths(value, f"{prefix}{name}.")
    return found


def _is_covered(path: str, explained: set[str]) -> bool:
    """Explained itself, or inside of a value that is explained as a whole."""
    if path in explained:
        return True
    above = path.rpartition(".")[0]
    is_group = any(other.startswith(above + ".") for other in explained)
    return bool(above) and not is_group and _is_covered(above, explained)


def test_haproxy_takes_its_file(tmp_path: Path) -> None:
    manifests = list(yaml.safe_load_all((EXAMPLES / "haproxy.yaml").read_text()))
    config = tmp_path / "haproxy.cfg"
    config.write_text(manifests[0]["data"]["haproxy.cfg"])
    subprocess.run([require_tool("haproxy"), "-c", "-q", "-f", str(config)], check=True, timeout=10)


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*.yaml")), ids=lambda page: page.name)
def test_examples_name_what_a_release_called_moorline_has(page: Path) -> None:
    """That release's objects are called `moorline` and so on; here it is called `release`."""
    text = page.read_text()
    services = {
        each["metadata"]["name"].removeprefix("release-") for each in render("minimal").of_kind("Service")
    }
    if page.name in {"gateway.yaml", "haproxy.yaml"}:
        assert any(f"{name}:1883" in text or f"{{name: {name}, port: 1883}}" in text for name in services)
    else:
        assert "moorline_connections" in text
        assert "name: moorline\n" in text or "name: moorline}" in text


def test_pages_are_named() -> None:
    text = (EXAMPLES.parent / "kubernetes.md").read_text()
    assert [page.name for page in EXAMPLES.iterdir() if f"(kubernetes/{page.name})" not in text] == []
