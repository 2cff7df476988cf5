"""What an open dashboard costs a node: `python -m tests.browser.cost [--seconds 20] [--rate 500]`.

The node's own processor time, as the kernel counts it, over intervals without and with pages open, in turn;
so a busy machine changes little.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, BrowserContext

from tests.browser.chromium import running_chromium
from tests.browser.stage import Stage, running_stage
from tests.tools import make_certificate

PAGES = (0, 1, 0, 10, 0, 1, 0)
"""Open at a time, one interval after the other."""
_CLIENTS = 20
_START_SECONDS = 8


def main() -> None:
    """Prints a line for each interval, and what a page costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of an interval")
    parser.add_argument("--rate", type=int, default=500, help="messages a second that the node has")
    arguments = parser.parse_args()
    seconds = arguments.seconds
    with tempfile.TemporaryDirectory() as directory:
        certificate = make_certificate(Path(directory))
        with running_stage(Path(directory), certificate) as stage, running_chromium() as browser:
            load = _start_load(stage, arguments.rate, _START_SECONDS + (seconds + 5) * len(PAGES))
            try:
                time.sleep(_START_SECONDS)
                _report([(pages, _measure(stage, browser, pages, seconds)) for pages in PAGES])
            finally:
                load.terminate()
                load.wait()


def _start_load(stage: Stage, rate: int, seconds: float) -> "subprocess.Popen[bytes]":
    arguments = [
        "loadtest", "pairs", "--broker", f"127.0.0.1:{stage.nodes[0].port}", "--qos", "1",
        "--publishers", str(_CLIENTS), "--subscribers", str(_CLIENTS), "--rate", str(rate),
        "--duration", str(seconds), "--warm-up", "1",
    ]  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "broker", *arguments], stdout=subprocess.DEVNULL)


def _measure(stage: Stage, browser: Browser, pages: int, seconds: float) -> float:
    """The share of a core that the node takes, while so many pages of its dashboard are open."""
    context = browser.new_context()
    for _ in range(pages):
        _open(context, stage)
    time.sleep(2)
    node = psutil.Process(stage.nodes[0].pid)
    before, began = sum(node.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    share = (sum(node.cpu_times()[:2]) - before) / (time.monotonic() - began)
    context.close()
    print(f"{pages:3} pages open: {100 * share:.2f} % of a core", flush=True)
    return share


def _open(context: BrowserContext, stage: Stage) -> None:
    """A tab that believes to be looked at, as all do in a browser without a window."""
    context.new_page().goto(stage.url())


def _report(measured: list[tuple[int, float]]) -> None:
    means = {
        pages: statistics.mean(share for count, share in measured if count == pages) for pages in set(PAGES)
    }
    for pages in sorted(means):
        if pages:
            print(
                f"{pages} open: {100 * (means[pages] - means[0]):+.2f} % of a core on {100 * means[0]:.1f} %"
            )


if __name__ == "__main__":
    main()
