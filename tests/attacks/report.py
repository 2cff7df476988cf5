"""The table of attacks, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.attacks.attack import ATTACKS
from tests.attacks.stage import MEGABYTE, Outcome

HEAD = """\
<!-- Written by `make attacks`. Change tests/attacks, not this file. -->
# Attacks

One node ({build}), and beside it {honest} honest clients, which publish at QoS 1 every 2 s each to a topic
of their own and get that message back. Each attack takes {seconds:g} s, from a process of its own on the
same machine ({cores} cores, {load}): the node, its Redis, those who measure and those who attack share the
processor, and the attacker gives way to the others. A newcomer tries to get in once a second, from another
address, with the right password.

Attackers on loopback addresses are never banned by themselves, so these figures are without that help. How
the attacks are made: `tests/attacks/attack.py`. In each run of the tests their short form shows that nobody
honest is disconnected, and that memory is bounded.

"""
COLUMNS = (
    "Attack",
    "honest: disconnected",
    "p50",
    "p99",
    "p99, machine steady (of so many)",
    "worst",
    "newcomers in (refused), slowest",
    "memory before, peak, after",
    "cores of the node",
    "what the attacker saw",
)
NOTES = """
Times are in ms, from PUBLISH until both PUBACK and the message are there; memory is that of the node's
process, in MB. A machine is steady while a small piece of work beside all this takes its usual processor
time ([how it is found out](loadtest.md#a-machine-with-hiccups)); that column leaves the other messages out.
Strings of equal hashes can't be made from outside: the hashes of Python have a secret seed in each process,
and what holds topics is bounded
([architecture](architecture.md#16-back-pressure-and-what-is-bounded-by-what)).
"""


def page(
    outcomes: Sequence[Outcome],
    calm: Mapping[str, Any],
    *,
    build: str,
    honest: int,
    seconds: float,
    cores: int,
    load: str,
) -> str:
    """All of it."""
    head = HEAD.format(build=build, honest=honest, seconds=seconds, cores=cores, load=load)
    rows = [COLUMNS, ["---"] * len(COLUMNS), ["none", *_felt(calm), "", "", ""], *map(_row, outcomes)]
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows) + NOTES


def _felt(felt: Mapping[str, Any]) -> list[str]:
    newcomers = f"{felt['newcomers']} ({felt['newcomers_refused']}), {felt['newcomers_worst_ms']}"
    steady = f"{felt['steady_p99_ms']} ({felt['steady']} of {felt['messages']})"
    first = [str(felt[each]) for each in ("disconnects", "p50_ms", "p99_ms")]
    return [*first, steady, str(felt["worst_ms"]), newcomers]


def _row(outcome: Outcome) -> list[str]:
    memory = ", ".join(str(round(each / MEGABYTE)) for each in (outcome.before, outcome.peak, outcome.after))
    seen = ", ".join(f"{count:,} {what}" for what, count in sorted(outcome.seen.items()))
    return [
        *(ATTACKS[outcome.name].title, *_felt(outcome.honest)),
        *(memory, f"{outcome.processor:.2f}", seen),
    ]
