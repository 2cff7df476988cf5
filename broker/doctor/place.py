"""Addresses, and the directory of the private Redis."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.doctor.finding import Finding, fail, ok, warn
from broker.errors import StartError
from broker.listeners.tcp import bind_tcp
from broker.settings import Address, Settings, SocketPath

_FREE_BYTES: Final = 1 << 30
_LISTENING: Final = "0A"
_FAMILIES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_PROC: Final = Path("/proc")


async def check_addresses(settings: Settings, proc: Path = _PROC) -> list[Finding]:
    """Of listeners, and of the admin address."""
    findings = []
    for listener in settings.all_listeners():
        place = listener.address.address
        if isinstance(place, SocketPath):
            findings.append(_socket(Path(place.path)))
        else:
            findings.append(await _address(str(listener.address), place, proc))
    return findings + [await _address(f"admin {each}", each, proc) for each in settings.node.admin]


async def _address(name: str, address: Address, proc: Path) -> Finding:
    try:
        bound = await bind_tcp(address)
    except StartError as error:
        owner = _owner(address.port, proc)
        if owner is None:
            return fail(
                "address", f"{name}: {error}", "use an address of this machine, and a port that is free"
            )
        process, command = owner
        if _is_ours(command):
            return ok("address", f"{name}: in use by moorline itself (process {process})")
        return fail(
            "address",
            f"{name}: in use by process {process or 'of somebody else'} {command[:1]}".rstrip(" []"),
            "stop it, or use another port",
        )
    with bound:
        family = _FAMILIES.get(bound.family, "")
    if address.host == "0.0.0.0":
        family = "IPv4 only; [::]:PORT is for IPv6"
    return ok("address", f"{name}: free ({family})")


def _is_ours(command: list[str]) -> bool:
    """Whether a process with this command line is a node, or its parent."""
    words = [Path(word).name for word in command]
    return bool({"moorline", "broker"} & {*words}) and bool({"serve", "worker"} & {*words})


def _owner(port: int, proc: Path) -> tuple[int, list[str]] | None:
    """The process that listens on a port, and its command line; 0 if it isn't ours to see. None: there is
    none, or this system doesn't tell."""
    inodes = _listening(port, proc)
    if not inodes:
        return None
    for directory in proc.iterdir():
        if directory.name.isdecimal():
            with suppress(OSError):  # it has ended, or is somebody else's
                for descriptor in (directory / "fd").iterdir():
                    if os.readlink(descriptor) in inodes:
                        command = (directory / "cmdline").read_bytes().decode(errors="replace")
                        return int(directory.name), command.rstrip("\0").split("\0")
    return 0, []


def _listening(port: int, proc: Path) -> set[str]:
    """Sockets that listen on a port, as links of descriptors name them."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _socket(path: Path) -> Finding:
    if not os.access(path.parent, os.W_OK):
        advice = "make the directory, for the user of the node"
        return fail("address", f"{path}: {path.parent} is not there, or not ours to write", advice)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return ok("address", f"{path}: free")
        except OSError:
            return ok("address", f"{path}: left over by a process that has ended; a node replaces it")
    return ok("address", f"{path}: somebody listens there; fine if it is the node")


def check_directory(settings: Settings) -> Iterator[Finding]:
    """Of the private Redis."""
    directory = settings.node.data_dir
    there = _nearest(directory.absolute())
    if not os.access(there, os.W_OK | os.X_OK):
        advice = "name another one with --data-dir, or give it to the user of the node"
        yield fail("data directory", f"{directory}: {there} is not ours to write", advice)
        return
    free = shutil.disk_usage(there).free
    found = f"{directory}: {free >> 20:,} MiB free"
    if free < _FREE_BYTES:
        yield warn(
            "data directory", found, "make room: when the disk is full nothing is acknowledged any more"
        )
    else:
        yield ok("data directory", found)


def _nearest(directory: Path) -> Path:
    """Itself, or what it would be made in."""
    return next(each for each in (directory, *directory.parents) if each.exists())
