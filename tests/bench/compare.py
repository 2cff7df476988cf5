"""Compare Moorline with its peers on this machine, and with the goals: `make bench`.

The loads and the measuring are those of `moorline loadtest compare`. A whole run (no --only or --quick, with
mosquitto) writes the table to docs/benchmarks.md and the report of each run to docs/benchmarks.json.
"""

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.compare import Comparison, Options, cells, headings, render_json, versions_of
from loadtest.machine import describe_machine
from loadtest.matrix import SCENARIOS
from loadtest.peers import MOORLINE, PEERS, BrokerFailed
from tests.bench.goals import MOSQUITTO, verdict

_ROOT: Final = Path(__file__).resolve().parents[2]
_USUAL: Final = (MOORLINE, MOSQUITTO)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the command line asked for."""

    options: Options
    write_to: Path | None


def render_markdown(comparison: Comparison, command: str, versions: dict[str, str]) -> str:
    """The page with the table."""
    options = comparison.options
    titles = {**versions, MOORLINE: "Moorline"}
    rows = [[*headings(options, titles), "goal"]]
    rows.append(["---"] * len(rows[0]))
    rows += [[*cells(line, options), verdict(line)] for line in comparison.lines]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    failures = "".join(f"\n- Failed: {failure}" for failure in comparison.failures)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"""\
# Benchmarks

{" beside ".join(versions.values())} on one machine, by `moorline loadtest` over the
loopback, MQTT 3.1.1, payloads of 16 bytes and a window of 20 where nothing else is said. Medians of
{options.runs} runs of {options.duration_seconds:g} s, each with a freshly started broker; `lost` is the sum.
The brokers run in turn, as this machine changes its speed within minutes: a ratio is the median of those of
the rounds, so it may differ from that of the medians beside it.

CPU-seconds and memory of Moorline (and of aedes) are those of the node *and* its Valkey or Redis. mosquitto
keeps everything in memory (no persistence); Moorline stores persistent sessions, with an append-only file.

- Machine: {describe_machine()}
- Date: {today}
- Command: `{command}`{failures}

{table}
"""


def parse_options(arguments: Sequence[str]) -> Bench:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    keys = [scenario.key for scenario in SCENARIOS]
    parser.add_argument("--only", action="append", choices=keys, help="one scenario; repeatable")
    parser.add_argument(
        "--broker", action="append", choices=list(PEERS), help=f"repeatable ({', '.join(_USUAL)})"
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: a look, not a measurement")
    parser.add_argument("--runs", type=int, help="runs per broker and scenario (5)")
    parser.add_argument("--duration", type=float, help="seconds per run (5)")
    parser.add_argument(
        "--output", type=Path, help="directory for benchmarks.md and .json (docs, for a whole run)"
    )
    chosen = parser.parse_args(arguments)
    brokers = tuple(name for name in PEERS if name in (chosen.broker or _USUAL))
    whole = not (chosen.only or chosen.quick) and set(_USUAL) <= set(brokers)
    options = Options(
        scenarios=tuple(s for s in SCENARIOS if not chosen.only or s.key in chosen.only),
        brokers=brokers,
        runs=chosen.runs or (1 if chosen.quick else 5),
        duration_seconds=chosen.duration or (2.0 if chosen.quick else 5.0),
    )
    return Bench(options, chosen.output or (_ROOT / "docs" if whole else None))


def main(arguments: Sequence[str]) -> int:
    """Run the comparison; 1 if a broker failed."""
    bench = parse_options(arguments)
    command = shlex.join([".venv/bin/python", "-m", "tests.bench.compare", *arguments])
    try:
        versions = versions_of(bench.options.brokers)
    except BrokerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    comparison = Comparison(bench.options, lambda text: print(text, flush=True))
    comparison.measure()
    page = render_markdown(comparison, command, versions)
    print("\n" + page)
    if bench.write_to is not None:
        bench.write_to.mkdir(exist_ok=True)
        (bench.write_to / "benchmarks.md").write_text(page)
        facts = {"machine": describe_machine(), "command": command, **versions}
        (bench.write_to / "benchmarks.json").write_bytes(render_json(comparison, facts))
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
