"""`moorline ctl export` and `import`: sessions, their messages and retained messages in a file; and users,
rules and bans, if they are asked for.

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
from enum import StrEnum
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


class More(StrEnum):
    """What is in an export if it is asked for; of all of the broker."""

    USERS = "users"
    RULES = "rules"
    BANS = "bans"


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
    more: Annotated[
        list[More] | None,
        typer.Option(
            "--with",
            help="Also all users with their hashes, the rules, all bans, as far as Redis has them; may be"
            " repeated.",
        ),
    ] = None,
    admin: AdminOption = LOCAL,
) -> None:
    """Write persistent sessions, what waits for them, and retained messages to a file, while the broker
    serves."""
    queries: list[tuple[str, dict[str, str]]] = [
        (f"/export/{each}", {}) for each in dict.fromkeys(more or ())
    ]
    if not no_sessions:
        queries.append(("/export/sessions", {"prefix": sessions, "queues": str(not no_queues).lower()}))
    if not no_retained:
        queries += [("/export/retained", {"filter": each}) for each in retained or ["#"]]
    counts: dict[str, int] = {}
    problems = 0
    with _written(file) as opened:
        writer = Writer(opened)
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
            help="What is there (sessions, retained messages, users ...): replace it, and disconnect the"
            " clients of such sessions; or leave it alone.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would become of them.")] = False,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """Make what a file has, in a broker that serves; the same file again changes nothing."""
    try:
        count = sum(1 for _ in _records(file))
    except _NoExport as error:
        typer.echo(f"moorline ctl: {file}: {error}; nothing was imported", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    order = {"format": FORMAT, "id": secrets.token_hex(8), "replace": replace, "dry_run": dry_run}
    told = _Told(count)
    try:
        for batch in _batches(file):
            told.add(_sent(admin, order, batch, is_first=not told.records), batch)
    except typer.Exit:  # the reason is told already
        told.print(as_json, dry_run)
        if not dry_run:
            typer.echo(told.stop(replace), err=True)
        raise
    told.print(as_json, dry_run)
    if dry_run:
        typer.echo("nothing was imported", err=True)
    if told.problems:
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
        "user": ("users", 1),
        "rules": ("texts of rules", 1),
        "ban": ("bans", 1),
    }.get(record["kind"], ("others", 1))
    counts[what] = counts.get(what, 0) + count


class _Told:
    """What the broker has said of an import of `count` records; `records`: of so many of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._total: dict[str, dict[str, int]] = {}
        self.records = 0
        self.problems = 0

    def add(self, answer: Answer, batch: list[object]) -> None:
        """Of a batch. The first problems are told at once."""
        for problem in answer["problems"][: max(_PROBLEMS - self.problems, 0)]:
            typer.echo(plain(problem), err=True)
        self.problems += answer["problem_count"]
        self.records += len(batch)
        messages = {"messages": {"made": answer["entries"], "dropped": answer["dropped"]}}
        parts = {"sessions": answer["sessions"], **messages, "retained": answer["retained"]}
        for what, counts in {**parts, **answer.get("access", {})}.items():
            own = self._total.setdefault(what, {})
            for outcome, count in counts.items():
                own[outcome] = own.get(outcome, 0) + count

    def print(self, as_json: bool, dry_run: bool) -> None:
        """All of it."""
        if as_json:
            records = {"records": self.records, "of": self._count}
            print_json({**self._total, **records, "problems": self.problems, "dry_run": dry_run})
        else:
            print_table([("", "", ""), *self._rows()])
        if self.problems > _PROBLEMS:
            typer.echo(f"{self.problems} problems in all", err=True)

    def stop(self, replace: bool) -> str:
        """What there is to know of an import that was stopped here."""
        again = "with --replace it begins anew" if replace else "what is there stays"
        return (
            f"stopped behind {self.records} of {self._count} records, some of the next may be there, too;"
            f" when the reason is gone, make the same import again: {again}"
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            (what, outcome, str(count))
            for what, counts in self._total.items()
            for outcome, count in counts.items()
            if count or outcome == "made"
        ]


# --- the file -----------------------------------------------------------------------------------------------


class Writer:
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
