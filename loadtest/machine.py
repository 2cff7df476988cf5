"""Where and with what something was measured: facts for the foot of a report."""

import datetime
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker import __version__, build_mode

_SECRET: Final = "--password"


def describe_machine() -> str:
    """Processor, cores, memory and system of this machine in one line."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}"
    )


def moorline_version() -> str:
    """`moorline 0.1.0 (compiled)`, or pure: of this process."""
    return f"moorline {__version__} ({build_mode()})"


def describe_command(arguments: Sequence[str]) -> str:
    """The command of a process with these arguments (sys.argv), without passwords."""
    words = list(arguments[1:])
    if words[:1] == ["loadtest"]:
        del words[0]
    for place, word in enumerate(words):
        if word == _SECRET and place + 1 < len(words):
            words[place + 1] = "***"
        elif word.startswith(f"{_SECRET}="):
            words[place] = f"{_SECRET}=***"
    return shlex.join(["moorline", "loadtest", *words])


def facts_of(arguments: Sequence[str]) -> dict[str, str]:
    """Of a run of this process that is over now."""
    return {
        "command": describe_command(arguments),
        "generator": moorline_version(),
        "machine": describe_machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(" ", "minutes"),
    }
