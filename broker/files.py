"""Writes a file anew beside the old one, and puts it in its place: who reads it meanwhile finds either."""

import os
import tempfile
from collections.abc import Iterable
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
