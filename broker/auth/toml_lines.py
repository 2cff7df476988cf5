"""Where in a TOML file a mistake is, for people. The parser does not say where it has found a value, so this
looks for the header of the table and the key. Where it finds neither it names no line."""

import re
from collections.abc import Sequence
from typing import Final

_HEADER: Final = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.\"' -]+?)\s*\]{1,2}\s*(#.*)?")


def line_of(text: str, location: Sequence[int | str]) -> str:
    """`line 7: ` of the value at such a place: table, number of the table if there are several, key."""
    table, rest = str(location[0]) if location else "", list(location[1:])
    number = rest.pop(0) if rest and isinstance(rest[0], int) else 0
    key = str(rest[0]) if rest else None
    found = 0
    seen = -1
    is_top = True
    for position, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line)
        if header is not None:
            is_top = False
            if found:
                break
            if header[1].strip("\"'") == table:
                seen += 1
                if seen == number:
                    found = position
                    if key is None:
                        break
        elif (found or is_top) and _sets(line, str(key) if found else table):
            found = position
            break
    return f"line {found}: " if found else ""


def _sets(line: str, key: str) -> bool:
    return re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) is not None
