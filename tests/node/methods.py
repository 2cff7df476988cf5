"""A node whose clients may name an Authentication Method: `python -m tests.node.methods serve ...`.

It takes its methods where any program that runs a node hands them over.
"""

import argparse
import time
from pathlib import Path

import anyio

from broker.auth import Continue, Exchange, Failure, Identity, Outcome, Success
from broker.cli import exit_code_of
from broker.mqtt import ReasonCode
from broker.node import run
from broker.observability import logs
from broker.settings import Settings, load

METHOD = "CHALLENGE"
"""The client says who it is, is asked for a word, and must answer with it and its name."""
WORD = b"sesame"
BRIEF_SECONDS = 0.3


class Challenge:
    """One exchange. "slow" and "broken" are what the names say, and "banned" is told so; "brief" may stay for
    BRIEF_SECONDS."""

    def __init__(self) -> None:
        self._user: bytes | None = None

    async def step(self, client_data: bytes | None) -> Outcome:
        if client_data == b"slow":
            await anyio.sleep_forever()
        if client_data == b"broken":
            raise RuntimeError("as it was asked to")
        if client_data is None:
            return Failure()
        if client_data == b"banned":
            return Failure("go away", ReasonCode.BANNED)
        if self._user is None:
            self._user = client_data
            return Continue(WORD)
        if client_data == WORD + b" " + self._user:
            if self._user == b"brief":
                return Success("brief", None, Identity("brief", deadline=time.time() + BRIEF_SECONDS))
            return Success(self._user.decode(), b"welcome")
        return Failure("wrong word")


class Challenging:
    """The method."""

    def begin(self, client_id: str, username: str | None) -> Exchange:
        return Challenge()


async def _run(settings: Settings) -> int:
    return await run(settings, authenticators={METHOD: Challenging()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--listen", action="append")
    parser.add_argument("--admin")
    parser.add_argument("--data-dir", type=Path)
    flags = parser.parse_args()
    node = {"listen": flags.listen, "admin": flags.admin, "data_dir": flags.data_dir}
    settings = load({"node": node}, None)
    logs.configure(settings.node.log_level, settings.node.log_format, settings.node.name)
    raise SystemExit(exit_code_of(_run, settings))


if __name__ == "__main__":
    main()
