"""Small files of text: read as a whole, and written anew beside the old one, which is then replaced, so that
who reads it meanwhile finds either."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_MODE_OF_A_NEW_FILE: Final = 0o600


def replace_file(file: Path, lines: Iterable[str]) -> None:
    """The lines have their ends. Keeps the mode; a new file is for its owner only. Raises OSError."""
    mode = file.stat().st_mode & 0o777 if file.exists() else _MODE_OF_A_NEW_FILE
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as opened:
            opened.writelines(lines)
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def read_lines(file: Path) -> list[str]:
    """ValueError says why it can't be read, and no part of the file."""
    try:
        return file.read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8") from None


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Those that say something: neither empty nor a comment. ValueError as of `read_lines`."""
    for number, line in enumerate(read_lines(file), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line
