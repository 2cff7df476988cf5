"""The settings of the database that is asked about clients."""

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from broker.settings.certificate import check_readable
from broker.settings.group import RESTORING, Group

SQL_PARAMETERS = ("username", "client_id", "address")
"""What may stand in a query, with a colon before it."""


class SqlSettings(Group):
    """A part of the group `auth`."""

    sql_url: str | None = Field(
        default=None,
        repr=False,
        description="Database with users and what they may do, as SQLAlchemy writes it:"
        " `postgresql+asyncpg://user:password@host/name`, `sqlite+aiosqlite:////path`. Needs"
        " `pip install 'moorline[sql]'`.",
    )
    sql_url_file: Path | None = Field(
        default=None,
        description="File with that, in place of `auth.sql_url`: others may see the variables of a process."
        " Read when the node starts.",
    )
    sql_user_query: str | None = Field(
        default=None,
        description="Query for a user, with `:username`, `:client_id` and `:address`. Columns:"
        " `password_hash` (argon2id), and if wanted `is_superuser` and `groups`.",
    )
    sql_acl_query: str | None = Field(
        default=None,
        description="Query for what a client may do, with the same parameters. Rows in order, of"
        " `permission` (`allow`, `deny`), `action` (`publish`, `subscribe`, `all`) and `topic`, a Topic"
        " Filter with `%u` and `%c`.",
    )
    sql_connections: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Connections to the database, and queries at a time. Too small: clients wait for each"
        " other. Too large: all nodes together take what the database allows.",
    )
    sql_queue: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="Clients that wait until one of these queries is done; beyond it they are told that the"
        " server is busy (0x89), first those from the address with the most in it. Too small: a storm of"
        " new clients has to try several times. Too large: they wait for longer than"
        " `auth.timeout_seconds`, and are refused then.",
    )

    @field_validator("sql_url_file")
    @classmethod
    def _url_is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @field_validator("sql_url", "sql_user_query", "sql_acl_query")
    @classmethod
    def _is_given(cls, text: str | None) -> str | None:
        return text or None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.sql_url is not None and self.sql_url_file is not None:
            raise ValueError("sql_url and sql_url_file: one of them is enough")
        is_there = self.sql_url is not None or self.sql_url_file is not None
        if is_there != (self.sql_user_query is not None or self.sql_acl_query is not None):
            raise ValueError("sql_url or sql_url_file, and sql_user_query or sql_acl_query, need each other")
        return self
