"""The group of settings for what the broker makes of topics beyond the specification."""

from pydantic import Field

from broker.settings.group import Group


class TopicSettings(Group):
    """What the broker makes of topics beyond the specification. Each of these is off unless it is asked for;
    how they work is in [topics](topics.md)."""

    delayed_maximum_seconds: int = Field(
        default=0,
        ge=0,
        le=0xFFFF_FFFF,
        description="Longest delay of a message published to `$delayed/<seconds>/<topic>`; one that asks for"
        " more is refused (0x97). 0: such topics are refused (0x90). Too small: clients have to keep the time"
        " themselves. Too large: what was meant to be soon, and is years away by a mistake, stays in Redis.",
    )
    delayed_limit: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Delayed messages of one client that wait; further ones are refused (0x97). Too small: a"
        " client that plans a day ahead can't. Too large: a faulty one fills Redis.",
    )
