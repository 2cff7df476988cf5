"""What commands ask people for."""

import sys
from collections.abc import Callable
from typing import NoReturn

import typer


def ask_password(refuse: Callable[[str], NoReturn]) -> str:
    """On a terminal twice and unseen; else the first line of standard input. `refuse`: there is none."""
    if sys.stdin.isatty():
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    return given or refuse("no password given")
