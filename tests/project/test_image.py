"""The image is made of what the project names: pinned, linted, and nothing else is sent to the builder."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import broker
from tests.upgrade.release import pins_of, with_requirements

ROOT = Path(broker.__file__).parent.parent
LOCKS = ("requirements-image.lock", "requirements-build.lock")
PINNED = re.compile(r"^(\S+==\S+).*? \\$", re.MULTILINE)
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_hadolint_is_content() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("lock", LOCKS)
def test_it_gets_what_the_tests_have(lock: str) -> None:
    """`make lock` writes all of them; each pin and its hashes are those of requirements.lock."""
    assert set(_pins(lock)) <= set(_pins("requirements.lock"))


def test_everything_that_the_broker_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["kubernetes"]]
    pinned = {re.split(r"\[|=", pin)[0] for pin, _ in _pins("requirements-image.lock")}
    assert {re.split(r"[^\w-]", name)[0] for name in wanted} <= pinned
    assert not pinned & {"pytest", "mypy", "ruff", "setuptools"}


def test_what_the_dependencies_need_is_pinned_too() -> None:
    """`UNUSED` in the Makefile leaves out what only a part of a package needs that the image doesn't have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins_of(ROOT, "requirements-image.lock")
    for name in with_requirements(project["dependencies"]):
        assert name in pinned


def test_every_file_that_is_copied_is_sent() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(name for line in copied for name in line.split()) == sorted(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_every_download_is_checked() -> None:
    """pip takes what has a hash in a lock file, or what is on the disk already."""
    commands = re.findall(r"/pip .*?(?=&&|\n[^ ])", DOCKERFILE, re.DOTALL)
    assert len(commands) == 4
    assert all("--require-hashes" in each or "--no-deps" in each for each in commands)
    assert sum("--require-hashes" in each for each in commands) == 2


def _pins(lock: str) -> list[tuple[str, str]]:
    """Each requirement, without where it applies, which depends on who else needs it; and its hashes."""
    text = (ROOT / lock).read_text()
    starts = [*PINNED.finditer(text)]
    ends = [*[match.start() for match in starts[1:]], len(text)]
    return [(match[1], text[match.end() : end].strip()) for match, end in zip(starts, ends, strict=True)]
