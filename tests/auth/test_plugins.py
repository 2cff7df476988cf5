"""Plug-ins by entry point."""

from pathlib import Path

import pytest

from broker.auth.plugins import load_authenticators, load_authorizers
from broker.errors import StartError

MODULE = """
class Good:
    async def authenticate(self, credentials): return None
    async def authorize(self, access): return None

def broken():
    raise RuntimeError("by itself")
"""
ENTRIES = """
[moorline.authenticators]
good = plugged:Good
broken = plugged:broken
missing = plugged:Nothing
wrong = builtins:object
[moorline.authorizers]
good = plugged:Good
"""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugged.py").write_text(MODULE)
    information = tmp_path / "plugged-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    (information / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_installed")
def test_by_their_names() -> None:
    assert [name for name, _ in load_authenticators(["good", "good"])] == ["good", "good"]
    ((_, authorizer),) = load_authorizers(["good"])
    assert hasattr(authorizer, "authorize")


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "no entry point 'nothing' of moorline.authenticators is installed; there are: ['broken'"),
        ("broken", "can't be made: RuntimeError: by itself"),
        ("missing", "can't be made: AttributeError"),
        ("wrong", "has no method 'authenticate'"),
    ],
)
def test_one_that_is_not_there(name: str, reason: str) -> None:
    with pytest.raises(StartError) as caught:
        load_authenticators([name])
    assert reason in str(caught.value)
