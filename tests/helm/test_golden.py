"""What the chart renders is what is committed, and Helm 3 renders the same."""

import pytest

import broker
from tests.helm.chart import CASES, CHART, GOLDEN, NEW, OLD, VALUES, kube_version, render, run_helm
from tests.helm.golden import golden_text

EACH_CASE = pytest.mark.parametrize("case", CASES)


def test_there_is_a_golden_file_for_each_case() -> None:
    assert len(CASES) >= 12
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == CASES


@EACH_CASE
def test_golden(case: str) -> None:
    assert golden_text(case) == (GOLDEN / f"{case}.yaml").read_text(), "python -m tests.helm.golden, and read"


@EACH_CASE
def test_helm_3_renders_the_same(case: str) -> None:
    assert render(case, helm="helm3") == render(case)


@EACH_CASE
def test_names_are_used_once(case: str) -> None:
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in render(case)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("helm", "cases"), [("helm", CASES), ("helm3", ["config", "trial"])])
def test_lint(helm: str, cases: list[str]) -> None:
    """A mistake in any of them ends it."""
    for case in cases:
        version = ("--kube-version", kube_version(case))
        run_helm(helm, "lint", "--strict", str(CHART), "--values", str(VALUES / f"{case}.yaml"), *version)


@pytest.mark.parametrize(("version", "like"), [("1.30.99", OLD), ("1.31.0", NEW)])
def test_versions_between_render_like_their_neighbours(version: str, like: str) -> None:
    """So `test_manifests` may render twice, and not for each version of Kubernetes."""
    assert render("locked-down", version) == render("locked-down", like)
    assert render("locked-down", OLD) != render("locked-down", NEW)


def test_the_chart_has_the_version_of_the_broker() -> None:
    chart = (CHART / "Chart.yaml").read_text()
    assert f"\nversion: {broker.__version__}\nappVersion: {broker.__version__}\n" in chart
