"""`moorline ctl`: asks a node's admin address, by HTTP like anybody else, and shows the answer.

Exit codes: 0 done; 1 the broker refused, is away, or is not well (`health`): one line says which; 2 usage.
"""

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Annotated, Any, Final, NoReturn, TypeVar, cast
from urllib.parse import quote

import typer

from broker.watching import watched
from cluster import discovery

EXIT_REFUSED: Final = 1
_ANSWER_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 16 << 20
_WAIT_STEP_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 60.0
_TOKEN_BYTES: Final = 256

T = TypeVar("T")
Answer = Mapping[str, Any]
"""JSON of the API; a newer node may say more than is read here."""

app = typer.Typer(no_args_is_help=True)

AdminOption = Annotated[
    str,
    typer.Option(
        "--admin",
        envvar="MOORLINE_ADMIN_URL",
        show_envvar=True,
        metavar="URL",
        help="Admin addresses, the first that answers is asked: URLs with commas, or dns+http://NAME:PORT.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
LOCAL: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class _Access:
    """What a request has with it."""

    token: str | None = None
    tls: ssl.SSLContext | None = None


_access: Final[ContextVar[_Access]] = ContextVar("_access")
"""Given before the command."""


@app.callback()
def ctl(
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MOORLINE_TOKEN_FILE",
            metavar="FILE",
            help="File with the token to ask with, made by `moorline token`; or the token in MOORLINE_TOKEN.",
        ),
    ] = None,
    cafile: Annotated[
        Path | None,
        typer.Option(
            envvar="MOORLINE_CAFILE",
            metavar="FILE",
            help="Authorities by which https:// is verified.",
        ),
    ] = None,
) -> None:
    """Look at a running cluster and steer it, by way of any of its nodes."""
    _access.set(_Access(_token(token_file), _tls(cafile)))


def _token(file: Path | None) -> str | None:
    """On the command line others could see it."""
    if file is None:
        return os.environ.get("MOORLINE_TOKEN") or None
    try:
        with file.open() as opened:
            text = opened.read(_TOKEN_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {getattr(error, 'strerror', 'no text')}") from None
    if not text.isascii() or not text.isprintable() or not text:
        raise typer.BadParameter(f"{file}: has no token")
    return text


def _tls(cafile: Path | None) -> ssl.SSLContext | None:
    if cafile is None:
        return None
    try:
        return ssl.create_default_context(cafile=cafile)
    except ssl.SSLError:
        raise typer.BadParameter(f"{cafile}: no PEM file with certificates") from None
    except OSError as error:
        raise typer.BadParameter(f"{cafile}: {error.strerror}") from None


@app.command()
@watched
def nodes(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """List the nodes of the cluster."""
    answer, _ = ask(admin, "GET", "/nodes")
    if as_json:
        print_json(answer)
        return
    # Where they run, if anybody has said so; an older node tells nothing of it.
    places = [each for each in ("kubernetes_node", "zone") if any(node.get(each) for node in answer["nodes"])]
    fields = ("sessions", "connections", "version"), ("admin", *places, "started", "incarnation")
    head = ("name", "state", *fields[0], "listen", *fields[1])
    rows = [
        (
            node["name"],
            _state(node),
            *(text(node[field]) for field in fields[0]),
            ",".join(node["listen"] or ["-"]),
            *(text(node.get(field)) for field in fields[1]),
        )
        for node in answer["nodes"]
    ]
    print_table([[each.upper().replace("_", "-") for each in head], *rows])


@app.command()
@watched
def health(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Tell how the node and the cluster are; exit code 1 if something is not well."""
    answer, _ = ask(admin, "GET", "/health")
    if as_json:
        print_json(answer)
    else:
        node, cluster = answer["node"], answer["cluster"]
        print_table(
            [
                ("status", answer["status"]),
                ("node", f"{node['name']} ({node['version']}), {'ready' if node['ready'] else 'not ready'}"),
                ("redis", answer["redis"]),
                (
                    "cluster",
                    "{alive} alive ({draining} draining), {dead} dead, {sessions} sessions".format(**cluster)
                    if cluster
                    else "unknown",
                ),
                *(("problem", problem) for problem in answer["problems"]),
            ]
        )
    if answer["status"] != "ok":
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def drain(
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODE]",
            help="Name of the node, or its incarnation; none: whoever answers; a parent: all its workers.",
        ),
    ] = None,
    admin: AdminOption = LOCAL,
    moved: Annotated[bool, typer.Option("--moved", help="Tell clients not to come back (0x9D).")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the node has left.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.0, metavar="SECONDS", help="How long --wait waits.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Send all clients of a node away, at a pace, and end it."""
    path = "/drain" if node is None else f"/nodes/{quote(node, safe='')}/drain"
    answer, base = ask(admin, "POST", path, {"moved": moved})
    leaving = [answer["incarnation"]] if node is not None else answer["nodes"]
    if wait and node is not None:
        _wait_until_gone(base, answer, timeout)
    elif wait:
        _wait_until_silent(base, ", ".join(leaving), timeout)
    if as_json:
        print_json(answer)
    else:
        one, several = ("has left", "have left") if wait else ("drains", "drain")
        typer.echo(f"{', '.join(leaving)} {several if len(leaving) > 1 else one}")


@app.command()
def rebalance(
    admin: AdminOption = LOCAL,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0.0, help="How far above the mean a node may be: 0.1, a tenth."),
    ] = 0.1,
    per_second: Annotated[
        float | None,
        typer.Option("--per-second", help="Clients each node sheds per second.", show_default="as it is set"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send clients away from nodes that have too many, down to the mean."""
    body = {"tolerance": tolerance, "per_second": per_second, "dry_run": dry_run}
    answer, _ = ask(admin, "POST", "/rebalance", body)
    if as_json:
        print_json(answer)
    else:
        rows = [
            (share["name"], text(share["sessions"]), text(share["shed"]), text(share["problem"]))
            for share in answer["nodes"]
        ]
        print_table([("NAME", "SESSIONS", "SHEDS", "PROBLEM"), *rows])
        typer.echo(f"mean {answer['mean']:g}" + (", nothing was done" if dry_run else ""))
    if any(share["problem"] for share in answer["nodes"]):
        raise typer.Exit(EXIT_REFUSED)


def _wait_until_gone(base: str, drained: Answer, timeout_seconds: float) -> None:
    """Until the node is no member any more. If it is the one that we ask, its admin address ends with it."""
    incarnation = drained["incarnation"]
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            found = _request(base, "GET", "/nodes")["nodes"]
        except _AwayError as error:
            if drained["is_this_node"]:
                return
            _fail(str(error))
        except _RefusedError as error:
            if not drained["is_this_node"]:  # else it may be closing its store
                _fail(str(error))
        else:
            states = {node["incarnation"]: node["alive"] for node in found}
            if incarnation not in states:
                return
            if not states[incarnation]:
                _fail(f"{incarnation} died before it was drained; the others give its sessions back")
        if time.monotonic() > deadline:
            _fail(f"{incarnation} has not left within {timeout_seconds:g} s")
        time.sleep(_WAIT_STEP_SECONDS)


def _wait_until_silent(base: str, who: str, timeout_seconds: float) -> None:
    """Until the process that we ask has closed its admin address: that is the last thing it does."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            _request(base, "GET", "/health")
        except _AwayError:
            return
        except _RefusedError:
            pass  # it is about to end
        if time.monotonic() > deadline:
            _fail(f"{who} not gone within {timeout_seconds:g} s")
        time.sleep(_WAIT_STEP_SECONDS)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for whom we asked, not for where they send us."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Nowhere: it is an error."""


class _AwayError(Exception):
    """Nobody answers."""


class _RefusedError(Exception):
    """The node, or whoever answers there, says no."""


class _BusyError(_RefusedError):
    """Not now (503)."""


def ask(admin: str, method: str, path: str, body: Answer | None = None) -> tuple[Answer, str]:
    """The answer of the first that gives one, and its URL."""
    return first_of(admin, lambda base: (_request(base, method, path, body), base))


def ask_patiently(admin: str, method: str, path: str, body: Answer | None = None) -> Answer:
    """The answer to what may be asked twice: while nobody gives one, or all say "not now", again and again
    for _PATIENCE_SECONDS. It may be of any size."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return _first_of(admin, lambda base: _request(base, method, path, body, None))
        except (_AwayError, _BusyError) as error:
            if time.monotonic() > deadline:
                _fail(str(error))
        except _RefusedError as error:
            _fail(str(error))
        time.sleep(_WAIT_STEP_SECONDS)


def first_of(admin: str, call: Callable[[str], T]) -> T:
    """What the first says that answers; `call` asks the one with that URL."""
    try:
        return _first_of(admin, call)
    except (_AwayError, _RefusedError) as error:
        _fail(str(error))


def _first_of(admin: str, call: Callable[[str], T]) -> T:
    """Raises _AwayError, _RefusedError."""
    try:
        bases = discovery.urls(admin)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--admin") from None
    except discovery.NoSuchName as error:
        _fail(str(error))
    silent = []
    for base in bases:
        try:
            return call(base)
        except _AwayError as error:
            silent.append(str(error))
    raise _AwayError("; ".join(silent))


def _request(
    base: str, method: str, path: str, body: Answer | None = None, bytes_maximum: int | None = _ANSWER_BYTES
) -> Answer:
    """Raises _AwayError, _RefusedError."""
    with _open(base, method, path, body, _ANSWER_SECONDS) as response:
        try:
            return _parsed(response.read(bytes_maximum), base)
        except (OSError, HTTPException) as error:
            raise _AwayError(f"no answer from {base}: {error}") from None


def open_stream(base: str, path: str, silence_seconds: float) -> HTTPResponse:
    """An answer that goes on, to be read line by line; that raises OSError if nothing comes for so long. For
    `first_of`."""
    return _open(base, "GET", path, None, silence_seconds)


def _open(base: str, method: str, path: str, body: Answer | None, seconds: float) -> HTTPResponse:
    """Raises _AwayError, _RefusedError."""
    request = urllib.request.Request(f"{base}/api/v1{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    access = _access.get()
    if access.token is not None:
        request.add_header("Authorization", f"Bearer {access.token}")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # never through a proxy
        urllib.request.HTTPSHandler(context=access.tls),
        _NoRedirect(),
    )
    try:
        return cast(HTTPResponse, opener.open(request, timeout=seconds))
    except urllib.error.HTTPError as error:
        with error:
            answer = _parsed(error.read(_ANSWER_BYTES), base)
        kind = _BusyError if error.code == HTTPStatus.SERVICE_UNAVAILABLE else _RefusedError
        raise kind(f"refused ({error.code}): {answer.get('error', error.reason)}") from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise _AwayError(f"no answer from {base}: {reason}") from None
    except OSError as error:  # while the head of the answer is read
        raise _AwayError(f"no answer from {base}: {error}") from None


def _parsed(content: bytes, base: str) -> Answer:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _RefusedError(f"{base} does not answer like a node of moorline; is it the admin address?")
    return answer


def _fail(reason: str) -> NoReturn:
    typer.echo(f"moorline ctl: {reason}", err=True)
    raise typer.Exit(EXIT_REFUSED)


def _state(node: Answer) -> str:
    if not node["alive"]:
        return "dead"
    if node["draining"] is None:
        return "starting"
    return "draining" if node["draining"] else "alive"


def text(value: object) -> str:
    return "-" if value is None else str(value)


def plain(given: str) -> str:
    """Without what a terminal would act on."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in given)


def print_json(answer: Answer) -> None:
    typer.echo(json.dumps(answer, indent=2))


def print_table(given: Sequence[Sequence[str]]) -> None:
    """Names come from clients: what a terminal would act on is escaped."""
    rows = [[plain(cell) for cell in row] for row in given]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
