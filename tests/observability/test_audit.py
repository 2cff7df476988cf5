"""The audit log and its file: rotated, on a full disk, and never in anybody's way."""

import json
import logging
import os
import time
from pathlib import Path

import pytest

from broker.errors import StartError
from broker.observability import audit
from broker.observability.audit import (
    Allowance,
    audit_file,
    audit_metrics,
    record,
    record_login,
    reopen_audit_file,
)

SECONDS = 5.0


@pytest.fixture(autouse=True)
def allowances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh ones, whatever other tests have recorded."""
    monkeypatch.setattr(
        audit, "_allowances", {event: Allowance(*rate) for event, rate in audit._RATES.items()}
    )


def read(file: Path, count: int) -> list[dict[str, object]]:
    """So many records, when they are there."""
    deadline = time.monotonic() + SECONDS
    while True:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)


def lost() -> float:
    (metric,) = audit_metrics()
    return float(metric.samples[0].value)


def test_records_are_in_the_log_and_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "audit.log"
    with audit_file(file, "node-1", with_logins=True):
        record("admin", action="drain", by=None, address="127.0.0.1")
        record_login(client_id="c", username=None)
        logging.getLogger("moorline.audit").warning(
            "denied", extra={"event": "connect", "password": "secret"}
        )
    drain, login, denied = read(file, 3)
    assert (drain["event"], drain["action"], drain["node_id"], drain["level"]) == (
        "admin", "drain", "node-1", "info",
    )  # fmt: skip
    assert "by" not in drain
    assert str(drain["time"]).endswith("Z")
    assert (login["event"], login["client_id"]) == ("login", "c")
    assert denied["event"] == "connect"
    assert "secret" not in file.read_text()
    assert [each.__dict__["event"] for each in caplog.records] == ["connect"], "no logins; others by level"
    assert os.stat(file).st_mode & 0o777 == 0o600
    record("admin", action="after")
    assert len(read(file, 3)) == 3


def test_without_a_file_logins_are_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), audit_file(None, "n", with_logins=True):
        record_login(client_id="c")
        reopen_audit_file()
        record("reload", logging.WARNING, file="rules_file")
    (only,) = caplog.records
    assert (only.levelname, only.__dict__["file"]) == ("WARNING", "rules_file")
    assert lost() == 0


def test_logins_can_be_left_out(tmp_path: Path) -> None:
    with audit_file(tmp_path / "a", "n", with_logins=False):
        record_login(client_id="c")
        record("admin", action="x")
    assert [each["event"] for each in read(tmp_path / "a", 1)] == ["admin"]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path, is_told: bool) -> None:
    file, old = tmp_path / "a", tmp_path / "a.1"
    with audit_file(file, "n", with_logins=True):
        record("admin", action="before")
        read(file, 1)
        file.rename(old)
        if is_told:
            reopen_audit_file()
        deadline = time.monotonic() + SECONDS
        while not file.exists():  # also with nothing to say
            assert time.monotonic() < deadline
            time.sleep(0.01)
        record("admin", action="after")
        assert [each["action"] for each in read(file, 1)] == ["after"]
    assert [each["action"] for each in read(old, 1)] == ["before"]


def test_a_full_disk_loses_records_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with audit_file(Path("/dev/full"), "n", with_logins=True):
        began = time.monotonic()
        for number in range(1000):
            record("admin", action=str(number))
        assert time.monotonic() - began < 1.0
        deadline = time.monotonic() + SECONDS
        while lost() < 1000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    complaints = [each for each in caplog.records if "can't be written" in each.getMessage()]
    assert len(complaints) == 1, "not one for each"


def test_what_waits_for_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk hangs."""
    monkeypatch.setattr(audit.AuditFile, "_run", lambda self: None)
    with audit_file(tmp_path / "a", "n", with_logins=True):
        for _ in range(10_000):
            record("admin", action="x" * 900)
        assert 10_000 * 900 - audit._WAITING_BYTES < lost() * 1100 < 10_000 * 1100


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="audit file"), audit_file(tmp_path / "no" / "a", "n", True):
        pass


def test_a_line_that_was_cut_by_a_full_disk_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    write, is_full = os.write, [True]

    def short(descriptor: int, data: bytes) -> int:
        if not is_full[0]:
            return write(descriptor, data)
        if data.startswith(b"{"):
            return write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with audit_file(file, "n", with_logins=True), monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        record("admin", action="cut")
        deadline = time.monotonic() + SECONDS
        while lost() < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        is_full[0] = False
        record("admin", action="whole")
    first, second = file.read_text().splitlines()
    assert len(first) == 10
    assert json.loads(second)["action"] == "whole"


def test_long_values_are_cut(tmp_path: Path) -> None:
    with audit_file(tmp_path / "a", "n", with_logins=True):
        record("admin", action="x" * 5000, count=7)
    (only,) = read(tmp_path / "a", 1)
    assert only["action"] == "x" * 1000 + "..."
    assert only["count"] == 7


def test_what_clients_cause_is_bounded_and_each_kind_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(500):
            record("banned", client_id="c")
        record("ban_added", ban="client:c")
        for _ in range(200):
            record("admin", action="x")
    events = [each.__dict__["event"] for each in caplog.records]
    assert 100 <= events.count("banned") < 200
    assert events.count("ban_added") == 1
    assert events.count("admin") == 200


def test_an_allowance_tells_what_was_left_out() -> None:
    now = [0.0]
    allowance = Allowance(2.0, 3.0, lambda: now[0])
    assert [allowance.take() for _ in range(5)] == [0, 0, 0, None, None]
    now[0] = 0.5
    assert [allowance.take() for _ in range(2)] == [2, None]
    now[0] = 100.0
    assert [allowance.take() for _ in range(4)] == [1, 0, 0, None]
