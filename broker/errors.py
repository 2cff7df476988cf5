"""Errors which belong to no room: those that end the process at start.

    MoorlineError
    └── StartError          the environment or the settings do not allow a start; exit code 2
        └── SettingsError   mistakes in flags, environment variables or the configuration file

Protocol errors live in `broker.mqtt.errors`, those of Redis in `cluster.store`.
"""

from collections.abc import Sequence


class MoorlineError(Exception):
    """Root of the errors that a person who runs a node may see."""


class StartError(MoorlineError):
    """The node cannot start here; the text says in one line what is wrong and what to do about it."""


class SettingsError(StartError):
    """One or more settings are wrong; `mistakes` names each of them, the text all of them."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        if len(self.mistakes) == 1:
            text = self.mistakes[0]
        else:
            text = f"{len(self.mistakes)} mistakes in the settings:\n" + "\n".join(
                f"  {m}" for m in self.mistakes
            )
        super().__init__(text)


def start_errors(error: BaseException) -> list[StartError]:
    """Every StartError in `error`, looked for in exception groups too; empty if anything else is in there."""
    if isinstance(error, StartError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    found: list[StartError] = []
    for part in error.exceptions:
        inner = start_errors(part)
        if not inner:
            return []
        found.extend(inner)
    return found
