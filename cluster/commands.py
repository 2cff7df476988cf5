"""What the cluster asks of a single node: the commands that come through its inbox, or from its own admin
address.

A command may come twice, or long after it was given. So each of them names the state to arrive at, not a
step towards it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from cluster.store.inbox_records import Command

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drain:
    """Send all clients away, give their sessions back, leave and end. `moved`: tell them not to come back."""

    moved: bool = False


@dataclass(frozen=True, slots=True)
class Shed:
    """Send clients away until `keep` are left of those that are there now, at a pace (None: the node's own).
    Replaces one that is under way."""

    keep: Annotated[int, Field(ge=0)]
    clients_per_second: Annotated[float | None, Field(gt=0)] = None


@dataclass(frozen=True, slots=True)
class Question:
    """Answer what is asked (`cluster.questions`), within so many seconds: whoever asks waits no longer.
    `argument` is JSON."""

    id: str
    name: str
    argument: str
    timeout_seconds: Annotated[float, Field(gt=0, le=60)]


Order: TypeAlias = Drain | Shed | Question

_DRAIN: Final = TypeAdapter(Drain)
_SHED: Final = TypeAdapter(Shed)
_QUESTION: Final = TypeAdapter(Question)
_NAMES: Final = {Drain: "drain", Shed: "shed", Question: "question"}


def pack(order: Order) -> Command:
    """As it goes into an inbox."""
    return Command(_NAMES[type(order)], orjson.dumps(order))


def handler(
    on_drain: Callable[[Drain], None],
    on_shed: Callable[[Shed], None],
    on_question: Callable[[Question], None],
    *,
    on_unknown: Callable[[], None] = lambda: None,
) -> Callable[[Command], None]:
    """A function that carries out commands. What it does not understand is logged and skipped: a newer node
    may know more."""

    def carry_out(command: Command) -> None:
        try:
            if command.name == "drain":
                on_drain(_DRAIN.validate_json(command.argument))
            elif command.name == "shed":
                on_shed(_SHED.validate_json(command.argument))
            elif command.name == "question":
                on_question(_QUESTION.validate_json(command.argument))
            else:
                logger.warning("unknown command, skipped", extra={"command": command.name})
                on_unknown()
        except ValidationError as error:
            logger.error("damaged command, skipped: %s", error, extra={"command": command.name})

    return carry_out
