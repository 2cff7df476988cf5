"""The release before this one, from the history of this clone, with what it takes to run a node of it.

It is the newest tag that HEAD is built on, and is not HEAD itself; as long as there is none, the commit that
`tests/upgrade/previous` names. Its sources and an environment of its own are kept in build/previous/: made in
half a second if it uses the same versions of other packages as this one, which are then shared.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from tests.tools import missing

ROOT: Final = Path(__file__).parents[2]
NAMED: Final = "tests/upgrade/previous"
_CACHE: Final = ROOT / "build/previous"
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Release:
    """A release that can be run. `tree` holds its sources."""

    name: str
    tree: Path
    python: Path

    @property
    def program(self) -> tuple[str, ...]:
        """What starts it; nothing of this checkout gets in."""
        return (str(self.python), "-I", "-m", "broker")

    def evaluate(self, statements: str) -> str:
        """What these statements print there."""
        command = [str(self.python), "-I", "-c", statements]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def previous_release() -> Release:
    """The release before this one, or the end of this test if the clone does not have it."""
    name = previous_name()
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not commit:
        missing(
            f"{name}, the release before this one, is not in this clone (or this is no clone): "
            "`git fetch --unshallow --tags`, or fetch-depth: 0 in CI, gets it"
        )
    place = _CACHE / f"{commit}-{sys.implementation.cache_tag}"
    if not place.is_dir():
        _make(commit, place)
    return Release(name, place / "tree", place / "env/bin/python")


def previous_name(clone: Path = ROOT) -> str:
    """A tag, or the commit that is named."""
    head = _git("rev-parse", "HEAD", clone=clone)
    tags = _git(
        "for-each-ref", "refs/tags", "--merged=HEAD", "--sort=-version:refname",
        "--format=%(objectname) %(*objectname) %(refname:short)",
        clone=clone,
    )  # fmt: skip
    for line in tags.splitlines():
        objects = line.split()
        if head not in objects[:-1]:
            return objects[-1]
    return (clone / NAMED).read_text().strip()


def _git(*arguments: str, clone: Path = ROOT) -> str:
    """What git says; nothing if it fails, as in a directory that is no clone."""
    done = subprocess.run(["git", "-C", str(clone), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


# Its environment


def _make(commit: str, place: Path) -> None:
    """Appears as a whole: several tests may do this at once."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        made = Path(scratch) / "made"
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True)
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(made / "tree", filter="data")
        venv.create(made / "env", symlinks=True, with_pip=False)
        own_packages = next((made / "env").glob("lib/python*/site-packages"))
        paths = [str(place / "tree")]
        if uses_our_packages(made / "tree"):
            paths.append(sysconfig.get_path("purelib"))
        else:
            _install(made)
        (own_packages / "previous.pth").write_text("\n".join(paths))
        try:
            made.rename(place)
        except OSError:  # somebody was faster
            assert place.is_dir()


def uses_our_packages(tree: Path) -> bool:
    """Whether all that its nodes import was pinned to the versions that are installed here."""
    pins = pins_of(tree)
    needed = with_requirements(dependencies_of(tree))
    return all(version is not None and pins.get(name) == version for name, version in needed.items())


def pins_of(tree: Path, lock: str = "requirements.lock") -> dict[str, str]:
    """Package and version."""
    return {_normal(name): version for name, version in _PIN.findall((tree / lock).read_text())}


def dependencies_of(tree: Path) -> list[str]:
    """As they stand in its project file."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def with_requirements(requirements: Iterable[str]) -> dict[str, str | None]:
    """All that is needed, with what that needs, and the version that is installed here. Markers are not
    looked at: what isn't for this platform isn't installed. None for a package that should be but is not."""
    found: dict[str, str | None] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        match = _NAME.match(requirement)
        name = _normal(match.group()) if match is not None else ""
        if name in found or "extra ==" in requirement:
            continue
        try:
            found[name] = importlib.metadata.version(name)
            waiting += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if ";" not in requirement:
                found[name] = None
    return found


def _install(made: Path) -> None:
    """Its own packages, in the versions of its lock file."""
    constraints = made / "constraints.txt"
    constraints.write_text(
        "\n".join(f"{name}=={version}" for name, version in pins_of(made / "tree").items())
    )
    pip = shutil.which("pip", path=str(Path(sys.executable).parent))
    if pip is None:
        missing("pip, for the packages of the release before this one, is not installed")
    subprocess.run(
        [
            *(
                pip,
                "--python",
                str(made / "env/bin/python"),
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ),
            *("--constraint", str(constraints), *dependencies_of(made / "tree")),
        ],
        check=True,
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
