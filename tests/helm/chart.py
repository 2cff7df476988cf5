"""Renders the chart, as tests see it: a list of manifests, found by kind and name."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import yaml

import broker
from tests.tools import require_tool

CHART: Final = Path(broker.__file__).parent.parent / "helm" / "moorline"
VALUES: Final = Path(__file__).parent / "values"
GOLDEN: Final = Path(__file__).parent / "golden"
CASES: Final = sorted(path.stem for path in VALUES.glob("*.yaml"))
NAMESPACE: Final = "mqtt"
OLD: Final = "1.27.0"
NEW: Final = "1.37.0"
SECONDS: Final = 30

Values = Mapping[str, object]
Manifest = dict[str, Any]
"""A manifest as YAML has it; what is in there is Kubernetes' business."""


class Refused(Exception):
    """Helm wouldn't render; the text is what the user reads."""


def kube_version(case: str) -> str:
    """The version that the golden output of a case is for."""
    return OLD if case == "old-cluster" else NEW


@cache
def render_text(case: str, version: str, helm: str = "helm") -> str:
    """What `helm template` prints for one of the files in `values`."""
    return _template(helm, version, VALUES / f"{case}.yaml")


@cache
def render(case: str, version: str = "", helm: str = "helm") -> "Manifests":
    """The manifests of one of the files in `values`."""
    return Manifests.parse(render_text(case, version or kube_version(case), helm))


def render_values(values: Values, helm: str = "helm", version: str = NEW) -> "Manifests":
    """The manifests for these values, on top of those that everybody has to give. Raises Refused."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        return Manifests.parse(_template(helm, version, VALUES / "minimal.yaml", Path(file.name)))


def _template(helm: str, version: str, *files: Path) -> str:
    options = [option for file in files for option in ("--values", str(file))]
    return run_helm(
        helm,
        *("template", "release", str(CHART), "--namespace", NAMESPACE, "--kube-version", version),
        *options,
    )


def run_helm(helm: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of helm. Raises Refused with its standard error."""
    # A home of its own: no configuration of the user, no cluster.
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [require_tool(helm), *arguments],
            env={"HOME": home, "KUBECONFIG": f"{home}/none", **(environment or {})},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


@dataclass(frozen=True)
class Manifests:
    """What the chart renders."""

    all: tuple[Manifest, ...]

    @classmethod
    def parse(cls, text: str) -> "Manifests":
        """From what helm prints."""
        loaded = yaml.load_all(text, Loader=yaml.CSafeLoader)
        documents = [cast(Manifest, document) for document in loaded if document]
        return cls(tuple(sorted(documents, key=lambda each: (each["kind"], each["metadata"]["name"]))))

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self.all)

    def of_kind(self, kind: str) -> list[Manifest]:
        """All of a kind, by name."""
        return [each for each in self.all if each["kind"] == kind]

    def one(self, kind: str, name: str = "release-moorline") -> Manifest:
        """The one with this kind and name."""
        (found,) = (each for each in self.of_kind(kind) if each["metadata"]["name"] == name)
        return found

    @property
    def deployment(self) -> Manifest:
        """The broker's."""
        (found,) = self.of_kind("Deployment")
        return found

    @property
    def pod(self) -> Manifest:
        """The specification of the broker's pods."""
        return cast(Manifest, self.deployment["spec"]["template"]["spec"])

    @property
    def container(self) -> Manifest:
        """The broker's container."""
        (found,) = (each for each in self.pod["containers"] if each["name"] == "moorline")
        return cast(Manifest, found)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the broker whose value is in the manifest."""
        return {each["name"]: each["value"] for each in self.container["env"] if "value" in each}

    @property
    def references(self) -> dict[str, Manifest]:
        """Variables of the broker whose value is somewhere else -> where."""
        return {each["name"]: each["valueFrom"] for each in self.container["env"] if "valueFrom" in each}

    def pod_specifications(self) -> Iterator[tuple[str, Manifest]]:
        """Every pod that there will be: its name and specification."""
        for each in self.all:
            if each["kind"] == "Pod":
                yield each["metadata"]["name"], each["spec"]
            elif "template" in each.get("spec", {}):
                yield each["metadata"]["name"], each["spec"]["template"]["spec"]
