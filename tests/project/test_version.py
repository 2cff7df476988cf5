"""The version stands in two files, since the package must know it without being installed."""

import tomllib
from pathlib import Path

import broker

ROOT = Path(broker.__file__).parent.parent


def test_package_and_project_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == broker.__version__
