"""A file that is read again when it changes."""

import os
from pathlib import Path

import anyio
import pytest

from broker.auth import watched
from broker.auth.watched import WatchedFile
from broker.observability.metrics import Tally


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError as error:
        raise ValueError(str(error)) from None


def test_changes_are_taken_and_mistakes_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_LOOK_SECONDS", 0.005)
    file = tmp_path / "file"
    reloads = Tally()
    seen: list[int] = []

    async def until(name: str, count: int) -> None:
        with anyio.fail_after(5):
            while reloads[name] < count:  # noqa: ASYNC110 - a counter tells nobody
                await anyio.sleep(0.005)

    async def run() -> None:
        file.write_text("1")
        content = WatchedFile("x", file, _read, reloads)
        assert content.load() == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(content.run, seen.append)
            file.write_text("22")
            await until("x", 1)
            file.write_text("three")
            await until("x_refused", 1)
            file.unlink()
            await until("x_refused", 2)
            (tmp_path / "other").write_text("4")
            (tmp_path / "other").replace(file)
            await until("x", 2)
            await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
        assert seen == [22, 4]
        assert reloads["x_refused"] == 2

    anyio.run(run)


def test_a_file_beside_it_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_LOOK_SECONDS", 0.005)
    file, beside = tmp_path / "file", tmp_path / "beside"
    file.write_text("1")
    reloads = Tally()

    async def run() -> None:
        content = WatchedFile("x", file, _read, reloads, [beside])
        assert content.load() == 1
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(content.run, lambda _: tasks.cancel_scope.cancel())
                beside.write_text("appears")

    anyio.run(run)
    assert reloads["x"] == 1


def _put(directory: Path, version: str, text: str) -> None:
    """As the kubelet does it: the files in a new directory, and a link to it that changes in one moment. What
    is mounted are links by way of that link, which stay as they are."""
    (directory / version).mkdir()
    (directory / version / "passwords").write_text(text)
    (directory / "..data_tmp").symlink_to(version)
    (directory / "..data_tmp").replace(directory / "..data")


def test_a_mounted_secret_of_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents of the same size, at the same moment: it is the file behind the links that counts."""
    monkeypatch.setattr(watched, "_LOOK_SECONDS", 0.005)
    _put(tmp_path, "..2026_1", "1")
    file = tmp_path / "passwords"
    file.symlink_to("..data/passwords")
    stamp = file.stat().st_mtime_ns
    reloads = Tally()
    taken = anyio.Event()

    async def run() -> None:
        content = WatchedFile("x", file, _read, reloads)
        assert content.load() == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(content.run, lambda number: taken.set() if number == 2 else None)
            _put(tmp_path, "..2026_2", "2")
            os.utime(file, ns=(stamp, stamp))
            with anyio.fail_after(5):
                await taken.wait()
            tasks.cancel_scope.cancel()

    anyio.run(run)
