"""`make attacks`: the long form."""

import argparse
import os
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from tests.attacks.attack import ATTACKS
from tests.attacks.report import page
from tests.attacks.stage import Outcome, own_settings, staged

SETTLE_SECONDS: Final = 5.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make attacks")
    parser.add_argument("--honest", type=int, default=500, help="honest clients")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--scale", type=float, default=1.0, help="of the attacks")
    parser.add_argument("--only", action="append", choices=list(ATTACKS), help="this attack; may be repeated")
    parser.add_argument("--write", type=Path, help="the page to write")
    return parser.parse_args()


def main() -> None:
    """Runs them all, one after the other; exit code 1 if somebody honest was disconnected."""
    given = _arguments()
    names = sorted(given.only or ATTACKS, key=lambda name: sorted(own_settings(name)))
    load = f"load before {os.getloadavg()[0]:.1f}"
    outcomes: list[Outcome] = []
    calm: dict[str, Any] = {}
    for settings, group in groupby(names, own_settings):
        with (
            tempfile.TemporaryDirectory() as directory,
            staged(Path(directory), given.honest, dict(settings)) as stage,
        ):
            build = stage.node.output().partition("(")[2].partition(")")[0]
            stage.ask()
            time.sleep(given.seconds / 2)
            calm = calm or dict(stage.ask())
            for name in group:
                outcomes.append(stage.run(name, given.seconds, given.scale, SETTLE_SECONDS))
                print(outcomes[-1], flush=True)
    order = list(ATTACKS)
    outcomes.sort(key=lambda outcome: order.index(outcome.name))
    text = page(
        outcomes,
        calm,
        build=build,
        honest=given.honest,
        seconds=given.seconds,
        cores=os.cpu_count() or 1,
        load=load,
    )
    print(text)
    if given.write is not None:
        given.write.write_text(text)
    if any(outcome.honest["disconnects"] or not outcome.is_alive for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
