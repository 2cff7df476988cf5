"""The command, and the order in which it looks.

Exit codes: 0 a node would start here and serve (there may be warnings); 1 something is wrong; 2 mistakes in
the settings, which are told at once; nothing else is looked at then.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Annotated, Final

import anyio
import typer

from broker.doctor.durability import check_durability
from broker.doctor.file import check_files
from broker.doctor.finding import Finding, Level, fail, ok
from broker.doctor.machine import check_machine
from broker.doctor.place import check_addresses, check_directory
from broker.doctor.pod import check_kubernetes
from broker.doctor.sentinel import check_sentinels
from broker.doctor.server import check_redis
from broker.errors import SettingsError, StartError
from broker.flags import Sources, with_sources
from broker.process import given_url, server_files
from broker.settings import Settings
from cluster.store.data_directory import socket_path
from cluster.store.endpoint import Endpoint, parse_url
from cluster.store.server_binary import find_server_binary

_EXIT_FOUND: Final = 1
_EXIT_SETTINGS: Final = 2


@with_sources
def doctor(
    sources: Sources,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look at settings, Redis, ports, files and limits; say what to change. Takes the flags of serve."""
    logging.disable()  # what is found is told here
    try:
        settings = sources.read()
    except SettingsError as error:
        _tell(
            [
                fail("settings", mistake, "mend it: a node does not start with it")
                for mistake in error.mistakes
            ],
            as_json,
        )
        raise typer.Exit(_EXIT_SETTINGS) from None
    findings = anyio.run(_examine, settings, sources)
    _tell(findings, as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(_EXIT_FOUND)


async def _examine(settings: Settings, sources: Sources) -> list[Finding]:
    findings = [ok("settings", "no mistakes")]
    endpoint: Endpoint | None = None
    try:
        url = given_url(settings.redis)
        endpoint = None if url is None else parse_url(url, server_files(settings.redis))
    except StartError as error:
        findings.append(fail("redis", str(error), "mend redis.url, or the files beside it"))
    else:
        findings += await _redis(settings, endpoint)
        findings += await check_durability(settings, endpoint)
    findings += check_machine(settings, endpoint)
    findings += await check_addresses(settings)
    findings += check_files(settings, sources.config, time.time())
    findings += await check_kubernetes(settings.kubernetes, os.environ)
    return findings


async def _redis(settings: Settings, endpoint: Endpoint | None) -> list[Finding]:
    if endpoint is not None and endpoint.sentinels:
        told, primary = await check_sentinels(endpoint)
        return told if primary is None else [*told, *await check_redis(primary, settings.redis.prefix)]
    if endpoint is not None:
        return await check_redis(endpoint, settings.redis.prefix)
    findings = list(check_directory(settings))
    socket = socket_path(settings.node.data_dir.resolve())
    if socket.exists():
        return [*findings, *await check_redis(Endpoint(path=str(socket)), settings.redis.prefix)]
    try:
        binary = await find_server_binary()
    except StartError as error:
        return [*findings, fail("redis", str(error), "install one, or name a running server with --redis")]
    return [*findings, ok("redis", f"a private one, started with the node: {binary}")]


def _tell(findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"findings": [_fields(finding) for finding in findings]}, indent=2))
        return
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.level:<5} {finding.about:<{width}}  {finding.found}")
        if finding.advice:
            typer.echo(f"{'':<5} {'':<{width}}  -> {finding.advice}")
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    typer.echo(", ".join(f"{count} {level}" for level, count in counts.items()))


def _fields(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level.value,
        "about": finding.about,
        "found": finding.found,
        "advice": finding.advice,
    }
