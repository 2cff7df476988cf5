"""Runs of the load generator by other benchmarks, and the middle one of several."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Sample = TypeVar("Sample", bound="DataclassInstance")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="of which the medians count")
    parser.add_argument("--write", type=Path, help="the page with the table")
    return parser


def report_of(arguments: str, broker: str, pids: Iterable[int], seconds: float, *flags: str) -> Any:
    """The report of one run, as JSON. Raises CalledProcessError if a message was lost, too."""
    command = [sys.executable, "-m", "loadtest", *arguments.split(), "--broker", broker, *flags]
    command += ["--duration", str(seconds), "--json", "-", *(f"--pid={pid}" for pid in pids)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["report"]


def median_of(samples: Sequence[Sample]) -> Sample:
    """Field by field."""
    return type(samples[0])(*map(statistics.median, zip(*map(astuple, samples), strict=True)))


def replace_part(page: Path, name: str, lines: Sequence[str]) -> None:
    """Puts lines between the marks of that name in a page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text("\n".join([before + begin, "", *lines, "", end]) + rest.partition(end)[2])
