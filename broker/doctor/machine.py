"""The kernel, the limits of processes, and what this program is."""

import resource
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from broker import __version__, build_mode
from broker.doctor.finding import Finding, ok, warn
from broker.settings import Settings
from cluster.store.endpoint import Endpoint

_FILE_RESERVE: Final = 64
"""Open files of a node that are not clients."""
_FEW_FILES: Final = 4096
_ROOT: Final = Path("/")


def check_machine(settings: Settings, redis: Endpoint | None, root: Path = _ROOT) -> Iterator[Finding]:
    """`redis` None: a private one. `root` is where `proc` and `sys` are."""
    yield _program()
    yield _loop()
    yield _files(settings)
    yield from _backlog(settings, root)
    if redis is None or is_local(redis):
        yield from _for_redis(root)


def is_local(redis: Endpoint) -> bool:
    """Whether it runs on this machine, as far as its address tells."""
    if redis.path or redis.host == "localhost":
        return True
    try:
        return ip_address(redis.host).is_loopback
    except ValueError:
        return False


def _program() -> Finding:
    mode = build_mode()
    found = f"moorline {__version__}, {mode}"
    if mode == "compiled":
        return ok("program", found)
    advice = "install a wheel for this platform, or with a C compiler, and don't set MOORLINE_PURE"
    return warn("program", found + ": a compiled one serves several times as many messages", advice)


def _loop() -> Finding:
    if find_spec("uvloop") is not None:
        return ok("event loop", "uvloop")
    return warn("event loop", "asyncio: slower than uvloop", "install uvloop")


def _files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.limits.connections_maximum
    advice = "raise it: `ulimit -Hn`, LimitNOFILE of systemd, or the container runtime"
    if hard == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    found = f"at most {hard:,}"
    if wanted and hard < wanted + _FILE_RESERVE:
        found += f", fewer than limits.connections_maximum ({wanted:,}) and {_FILE_RESERVE} more"
        return warn("open files", found, advice)
    if not wanted and hard < _FEW_FILES:
        return warn("open files", f"{found}: so many clients, less {_FILE_RESERVE}", advice)
    return ok("open files", f"{found}, of each node")


def _backlog(settings: Settings, root: Path) -> Iterator[Finding]:
    somaxconn = _number(root / "proc/sys/net/core/somaxconn")
    wanted = settings.node.backlog
    if somaxconn is None:
        return
    if somaxconn < wanted:
        yield warn(
            "backlog",
            f"net.core.somaxconn {somaxconn} cuts node.backlog ({wanted})",
            f"sysctl -w net.core.somaxconn={wanted}",
        )
    else:
        yield ok("backlog", f"node.backlog {wanted}, net.core.somaxconn {somaxconn}")


def _for_redis(root: Path) -> Iterator[Finding]:
    """What Redis itself warns about in its log, which nobody reads."""
    overcommit = _number(root / "proc/sys/vm/overcommit_memory")
    if overcommit is not None and overcommit != 1:
        yield warn(
            "memory",
            f"vm.overcommit_memory is {overcommit}: Redis may fail to rewrite its append-only file",
            "sysctl -w vm.overcommit_memory=1",
        )
    elif overcommit is not None:
        yield ok("memory", "vm.overcommit_memory is 1")
    huge = _text(root / "sys/kernel/mm/transparent_hugepage/enabled")
    if "[always]" in huge:
        yield warn(
            "memory",
            "transparent huge pages are always used: Redis stalls after a fork, and takes more memory",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    elif huge:
        yield ok("memory", "transparent huge pages are used only where they are asked for")


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    """Empty where there is none: another system, or a container that doesn't show it."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
