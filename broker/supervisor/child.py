"""A worker's process: a node that takes its settings from its parent and ends with it."""

import os
from contextlib import suppress
from functools import partial

from broker.node import REREAD, run
from broker.supervisor.assignment import Assignment, Report
from broker.surroundings import Parent
from cluster.store.guard import end_with


async def run_child(assignment: Assignment) -> int:
    """Runs the node; the exit code. Raises StartError."""
    if not end_with(assignment.parent):
        return 1
    try:
        return await run(
            assignment.settings,
            Parent(
                assignment.admin,
                tell_up=lambda: _tell(Report()),
                tell_reread=partial(os.kill, assignment.parent, REREAD),
            ),
            read=assignment.sources.read,
            given=assignment.given,
        )
    finally:
        if os.getppid() != assignment.parent:  # who would have removed the directory of the sockets
            with suppress(OSError):  # another worker has still one in there, or was faster
                assignment.admin.parent.rmdir()


def tell_refusal(text: str) -> None:
    """Tells the parent why no start is possible."""
    _tell(Report(text))


def _tell(report: Report) -> None:
    with suppress(BrokenPipeError):  # without a parent we are about to be told to stop
        print(report.to_line(), flush=True)
