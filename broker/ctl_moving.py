"""`moorline ctl export` and `import`: sessions, their messages and retained messages in a file.

The file has a record of JSON in each line (`cluster.moved`), a head first, and last how many there are and
their checksum: so a file that was cut off is noticed before anything of it is imported.
"""

import gzip
import hashlib
import json
import os
import secrets
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Final, cast
from urllib.parse import urlencode

import typer

from broker import __version__
from broker.ctl import (
    EXIT_REFUSED,
    LOCAL,
    AdminOption,
    Answer,
    JsonOption,
    ask,
    ask_patiently,
    plain,
    print_json,
    print_table,
)

FORMAT: Final = 1
"""What this release can read."""
_BATCH_BYTES: Final = 256 << 10
_BATCH_RECORDS: Final = 512
_PROBLEMS: Final = 20
_STANDARD: Final = Path("-")
_HEAD: Final = "moorline"
_END: Final = "end"

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file that an export has written; .gz: compressed.")
]


class _NoExport(ValueError):
    """The file is none, or not all of it is there; the text says which."""


def add_commands(app: typer.Typer) -> None:
    """To `moorline ctl`."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="[FILE]", help="Written when all is there; .gz: compressed; -: standard output."
        ),
    ] = _STANDARD,
    sessions: Annotated[
        str, typer.Option("--sessions", metavar="PREFIX", help="Sessions whose Client Identifiers begin so.")
    ] = "",
    no_sessions: Annotated[bool, typer.Option("--no-sessions", help="None.")] = False,
    no_queues: Annotated[
        bool, typer.Option("--no-queues", help="Sessions without the messages that wait for them.")
    ] = False,
    retained: Annotated[
        list[str] | None,
        typer.Option(
            "--retained",
            metavar="FILTER",
            help="Retained messages that match; may be repeated.",
            show_default="#",
        ),
    ] = None,
    no_retained: Annotated[bool, typer.Option("--no-retained", help="None.")] = False,
    admin: AdminOption = LOCAL,
) -> None:
    """Write persistent sessions, what waits for them, and retained messages to a file, while the broker
    serves."""
    queries = []
    if not no_sessions:
        queries.append(("/export/sessions", {"prefix": sessions, "queues": str(not no_queues).lower()}))
    if not no_retained:
        queries += [("/export/retained", {"filter": each}) for each in retained or ["#"]]
    counts: dict[str, int] = {}
    problems = 0
    with _written(file) as opened:
        writer = _Writer(opened)
        writer.write({_HEAD: __version__, "format": FORMAT, "of": [[path, query] for path, query in queries]})
        for path, query in queries:
            for page in _pages(admin, path, query):
                for record in page["records"]:
                    writer.write(record)
                    _count(counts, record)
                for problem in page["problems"]:
                    typer.echo(plain(problem), err=True)
                problems += len(page["problems"])
        writer.end()
    typer.echo(", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing", err=True)
    if problems:
        raise typer.Exit(EXIT_REFUSED)


def import_(
    file: FileArgument,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace/--skip",
            help="Sessions and retained messages that are there: end them, and disconnect their clients; or"
            " leave them alone.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would become of them.")] = False,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """Make what a file has, in a broker that serves; the same file again changes nothing."""
    try:
        for _ in _records(file):
            pass
    except _NoExport as error:
        typer.echo(f"moorline ctl: {file}: {error}; nothing was imported", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    order = {"format": FORMAT, "id": secrets.token_hex(8), "replace": replace, "dry_run": dry_run}
    total: dict[str, dict[str, int]] = {}
    told = problems = 0
    for batch in _batches(file):
        answer = _sent(admin, order, batch, is_first=not total)
        for problem in answer["problems"]:
            told += 1
            if told <= _PROBLEMS:
                typer.echo(plain(problem), err=True)
        problems += answer["problem_count"]
        _add(total, answer)
    if as_json:
        print_json({**total, "problems": problems, "dry_run": dry_run})
    else:
        print_table([("", "", ""), *_rows(total)])
    if problems > _PROBLEMS:
        typer.echo(f"{problems} problems in all", err=True)
    if dry_run:
        typer.echo("nothing was imported", err=True)
    if problems:
        raise typer.Exit(EXIT_REFUSED)


def _pages(admin: str, path: str, query: dict[str, str]) -> Iterator[Answer]:
    page, _ = ask(admin, "GET", f"{path}?{urlencode(query)}")
    while True:
        yield page
        if page["next"] is None:
            return
        page = ask_patiently(admin, "GET", f"{path}?{urlencode(query | {'after': page['next']})}")


def _sent(admin: str, order: Answer, batch: list[object], *, is_first: bool) -> Answer:
    body = {**order, "records": batch}
    return (
        ask(admin, "POST", "/import", body)[0] if is_first else ask_patiently(admin, "POST", "/import", body)
    )


def _count(counts: dict[str, int], record: Answer) -> None:
    what, count = {
        "session": ("sessions", 1),
        "entries": ("messages", len(record.get("entries", ()))),
        "retained": ("retained messages", 1),
    }.get(record["kind"], ("others", 1))
    counts[what] = counts.get(what, 0) + count


def _add(total: dict[str, dict[str, int]], answer: Answer) -> None:
    messages = {"messages": {"made": answer["entries"], "dropped": answer["dropped"]}}
    for what, counts in {"sessions": answer["sessions"], **messages, "retained": answer["retained"]}.items():
        own = total.setdefault(what, {})
        for outcome, count in counts.items():
            own[outcome] = own.get(outcome, 0) + count


def _rows(total: dict[str, dict[str, int]]) -> list[tuple[str, str, str]]:
    return [
        (what, outcome, str(count))
        for what, counts in total.items()
        for outcome, count in counts.items()
        if count or outcome == "made"
    ]


# --- the file -----------------------------------------------------------------------------------------------


class _Writer:
    """A record in each line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._count = 0

    def write(self, record: object) -> None:
        """One more."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)
        self._count += 1

    def end(self) -> None:
        """There are no more."""
        self.write({_END: self._count, "sha256": self._digest.hexdigest()})


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that has its name when all of it is there, and that others can't read."""
    if path == _STANDARD:
        yield sys.stdout.buffer
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[bytes]:
    """Raises _NoExport."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            yield from cast(IO[bytes], opened)
    except EOFError:
        raise _NoExport("it is cut off") from None
    except (OSError, zlib.error) as error:
        raise _NoExport(str(getattr(error, "strerror", None) or error)) from None


def _records(path: Path) -> Iterator[tuple[Answer, int]]:
    """Each with its size. Raises _NoExport, at the end at the latest."""
    digest = hashlib.sha256()
    end: Answer | None = None
    count = 0
    for line in _lines(path):
        if end is not None:
            raise _NoExport("it goes on behind its end")
        record = _parsed(line)
        if count == 0:
            _check_head(record)
        elif "kind" in record:
            yield record, len(line)
        elif _END in record:
            end = record
            continue
        digest.update(line)
        count += 1
    if end is None:
        raise _NoExport("it is cut off" if count else "it is empty")
    if end[_END] != count or end.get("sha256") != digest.hexdigest():
        raise _NoExport("it has been changed: its checksum is another one")


def _parsed(line: bytes) -> Answer:
    try:
        record = json.loads(line)
    except ValueError:
        raise _NoExport(
            "it is cut off" if not line.endswith(b"\n") else "it has lines that are no JSON"
        ) from None
    if not isinstance(record, dict):
        raise _NoExport("it has lines that are no records")
    return record


def _check_head(record: Answer) -> None:
    if _HEAD not in record:
        raise _NoExport("it is no export of moorline")
    if record.get("format") != FORMAT:
        raise _NoExport(f"its format is {record.get('format')}; this release reads {FORMAT}")


def _batches(path: Path) -> Iterator[list[object]]:
    """As many records as are in a request."""
    batch: list[object] = []
    size = 0
    for record, line_bytes in _records(path):
        if batch and (size + line_bytes > _BATCH_BYTES or len(batch) == _BATCH_RECORDS):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += line_bytes
    if batch:
        yield batch
