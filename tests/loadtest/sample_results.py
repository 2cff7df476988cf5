"""Results for tests of what is made of them: a report with a timeline, and names that want escaping."""

from dataclasses import replace

from loadtest.histogram import Latency
from loadtest.result import Result
from loadtest.timeline import Load, Sample, Timeline
from tests.loadtest.test_report import REPORT

HOSTILE = '<script src="x">&\'"</script>'


def sample(second: int, *, redis: bool = True) -> Sample:
    """One second with figures that differ from all others."""
    return Sample(
        at_seconds=float(second),
        per_second={"sent": 1000.0 + second, "delivered": 2000.0 + second},
        latency_ms=Latency(0.1 * second, 0.2 * second, 0.3 * second, 0.4 * second, 5.0 * second),
        so_far={"missing": second, "duplicates": 0, "order_errors": 0, HOSTILE: 1},
        generator_cores=0.3,
        broker=Load(0.9, 50 * 2**20),
        redis=Load(0.2, 20 * 2**20) if redis else None,
    )


def result(samples: list[Sample] | None = None, **changes: object) -> Result:
    """A result of pairs; without samples it has no timeline."""
    timeline = Timeline(1.0, 1.0, samples) if samples is not None else None
    report = replace(REPORT, timeline=timeline, **changes)  # type: ignore[arg-type]  # by name
    return Result.of("pairs", report, {"command": HOSTILE, "machine": "this one"})
