"""Which release is the one before this one, and what is done if it can't be had."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.upgrade import release

_AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


def _git(clone: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(clone), *_AUTHOR, *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """With two commits, of which none has a tag."""
    named = tmp_path / release.NAMED
    named.parent.mkdir(parents=True)
    named.write_text("0123abc\n")
    _git(tmp_path, "init", "--quiet")
    for message in ("one", "two"):
        _git(tmp_path, "add", ".")
        _git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", message)
    return tmp_path


def test_without_tags_it_is_named(clone: Path) -> None:
    assert release.previous_name(clone) == "0123abc"
    _git(clone, "tag", "v0.1.0")  # HEAD itself is none before it
    assert release.previous_name(clone) == "0123abc"


def test_the_newest_tag_counts(clone: Path) -> None:
    _git(clone, "tag", "v0.9.0", "HEAD~1")
    _git(clone, "tag", "-a", "-m", "annotated", "v0.10.0", "HEAD~1")
    _git(clone, "tag", "-a", "-m", "annotated", "v0.11.0")
    assert release.previous_name(clone) == "v0.10.0"


def test_tags_of_another_line_do_not_count(clone: Path) -> None:
    _git(clone, "switch", "--quiet", "--create", "later")
    _git(clone, "commit", "--quiet", "--allow-empty", "-m", "three")
    _git(clone, "tag", "v1.0.0")
    _git(clone, "switch", "--quiet", "--detach", "HEAD~1")
    assert release.previous_name(clone) == "0123abc"


@pytest.mark.parametrize("is_ci", [True, False])
def test_a_release_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, is_ci: bool) -> None:
    monkeypatch.setattr(release, "previous_name", lambda: "0" * 40)
    monkeypatch.setenv("CI", "true" if is_ci else "")
    end = pytest.fail.Exception if is_ci else pytest.skip.Exception
    with pytest.raises(end, match="git fetch --unshallow"):
        release.previous_release()


def test_packages_are_shared_if_they_are_the_same(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(release.ROOT / name, tmp_path)
    assert release.uses_our_packages(tmp_path)
    lock = tmp_path / "requirements.lock"
    pinned = release.pins_of(tmp_path)["idna"]  # which only another package needs
    lock.write_text(lock.read_text().replace(f"idna=={pinned}", "idna==3.0"))
    assert not release.uses_our_packages(tmp_path)


def test_a_package_that_is_not_there_is_not_shared(tmp_path: Path) -> None:
    shutil.copy(release.ROOT / "requirements.lock", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["no-such-package-here>=1"]\n')
    assert not release.uses_our_packages(tmp_path)
