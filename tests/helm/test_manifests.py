"""Every manifest is one of Kubernetes 1.27 to 1.37, with no field that isn't there."""

import json
from functools import cache
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has annotations, but no py.typed
import pytest
import yaml
from kubernetes_validate import utils

from tests.helm.chart import CASES, CHART, NEW, OLD, Manifest, render, render_values

VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
CUSTOM = {"Certificate", "PrometheusRule", "ServiceMonitor"}
"""Of operators: kubernetes-validate doesn't know them."""
DOCUMENTS = sorted((CHART.parent.parent / "docs" / "kubernetes").glob("*.yaml"))


@pytest.fixture(autouse=True)
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads a file of a megabyte for each manifest otherwise."""
    monkeypatch.setattr(utils, "schema_contents", _schema_contents)


@cache
def _schema_contents(filename: str, version: str, read: Any = utils.schema_contents) -> Any:
    return read(filename, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_cases(version: str) -> None:
    rendered_for = OLD if int(version.partition(".")[2]) < 31 else NEW
    manifests = [each for case in CASES for each in render(case, rendered_for) if each["kind"] not in CUSTOM]
    distinct = {json.dumps(each, sort_keys=True): each for each in manifests}
    assert len(distinct) > len(CASES)
    for manifest in distinct.values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_examples_of_the_documentation(page: Any) -> None:
    manifests: list[Manifest] = list(yaml.safe_load_all(page.read_text()))
    native = [each for each in manifests if "." not in each["apiVersion"] or ".k8s.io/" in each["apiVersion"]]
    for manifest in native:
        if not manifest["apiVersion"].startswith("gateway."):
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    assert manifests


def test_a_field_that_is_not_there_is_found() -> None:
    manifest = render_values({"resources": {"limit": {"memory": "1Gi"}}}).deployment
    with pytest.raises(kubernetes_validate.ValidationError, match="limit"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
