"""The measurement of `make reconnect`: its accounts, its verdict, and a small run of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.ledger import Ledger
from tests.cluster.reconnect import Outcome, main, parse_options, render_markdown, render_text
from tests.tools import require_tool

KEPT = Outcome(
    options=parse_options(["--clients", "30"]),
    spread=Counter({"node-1": 10, "node-2": 10, "node-3": 10}),
    killed="node-1",
    cut=3,
    settle_seconds=0.5,
    back=[0.1, 0.2, 0.9],
    connack=[0.001, 0.002, 0.003],
    sessions_present=3,
    cut_elsewhere=0,
    failed_connects=0,
    published=100,
    unacknowledged=0,
    lost=0,
    duplicates=2,
    out_of_order=0,
    misdirected=0,
    faults=[],
)
"""All promises kept; duplicates are allowed at QoS 1."""


# The accounts


def test_what_is_acknowledged_is_missing_until_it_comes() -> None:
    ledger = Ledger(2)
    assert [ledger.publish(1), ledger.publish(1)] == [0, 1]
    ledger.acknowledge(1, 0)
    assert (ledger.missing, ledger.unacknowledged) == ({(1, 0)}, 1)
    ledger.receive(1, 1, 0)
    assert not ledger.missing


def test_it_may_come_before_its_acknowledgement() -> None:
    ledger = Ledger(1)
    ledger.receive(0, 0, ledger.publish(0))
    ledger.acknowledge(0, 0)
    assert (ledger.missing, ledger.unacknowledged) == (set(), 0)


def test_repeated_and_disordered_messages_are_told_apart() -> None:
    ledger = Ledger(1)
    for number in (0, 2, 2, 0, 1, 3):
        ledger.receive(0, 0, number)
    assert (ledger.duplicates, ledger.out_of_order) == (2, 1)


def test_a_message_for_somebody_else_counts_for_nobody() -> None:
    ledger = Ledger(2)
    ledger.acknowledge(1, ledger.publish(1))
    ledger.receive(0, 1, 0)
    assert (ledger.misdirected, ledger.missing) == (1, {(1, 0)})


# The verdict


def test_a_run_that_keeps_all_promises_has_no_problems() -> None:
    assert KEPT.problems() == []
    assert "FAILED" not in render_text(KEPT)
    page = render_markdown(KEPT, "python -m x", "moorline 1")
    assert "| acknowledged and lost | 0 |" in page
    assert "| kill to CONNACK, p50 / p99 / last | 0.20 / 0.89 / 0.90 s |" in page
    assert "- Command: `python -m x`" in page


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (replace(KEPT, back=[0.1], sessions_present=1), "2 clients not back within 30 s"),
        (replace(KEPT, sessions_present=2), "1 clients came back without their session"),
        (replace(KEPT, cut_elsewhere=1), "1 clients of other nodes were cut"),
        (replace(KEPT, unacknowledged=4), "4 messages never acknowledged"),
        (replace(KEPT, lost=5), "5 acknowledged messages lost"),
        (replace(KEPT, out_of_order=6), "6 messages out of order"),
        (replace(KEPT, misdirected=7), "7 messages came to another client"),
        (replace(KEPT, faults=["a: b"]), "a: b"),
    ],
)
def test_each_broken_promise_is_a_problem(broken: Outcome, problem: str) -> None:
    assert broken.problems() == [problem]
    assert f"FAILED: {problem}" in render_text(broken)
    assert f"- Failed: {problem}" in render_markdown(broken, "c", "v")


@pytest.mark.parametrize("count", ["2", "8001"])
def test_a_number_of_clients_that_makes_no_sense(count: str) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--clients", count])


# A run


@pytest.mark.timeout(120)
def test_a_small_run_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_tool("haproxy")
    page = tmp_path / "page.md"
    options = ["--clients", "60", "--rate", "200", "--before", "1", "--after", "1", "--back-off", "0.2"]
    assert main([*options, "--write", str(page)]) == 0, capsys.readouterr().out
    assert "| acknowledged and lost | 0 |" in page.read_text()
