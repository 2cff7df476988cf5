"""A database that is asked by queries of the operator. Only parameters go into them, never text."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from broker.auth.access import Unavailable
from broker.auth.remote import Unreachable

_ROWS_MAXIMUM: Final = 1000
_RECYCLE_SECONDS: Final = 1800
_SHOWN: Final = 200  # characters of an error

Row = Mapping[str, object]


class Query:
    """One query. `columns`: what each row has to have."""

    def __init__(self, text: str, parameters: Collection[str], columns: Collection[str]) -> None:
        """ValueError if it has other parameters than these."""
        statement = sqlalchemy.text(text)
        self.parameters = frozenset(statement.compile().params)
        self.columns = columns
        unknown = self.parameters.difference(parameters)
        if unknown:
            known = ", ".join(f":{name}" for name in parameters)
            raise ValueError(f":{min(unknown)} is not one of {known}")
        self.statement = statement.bindparams(
            *(sqlalchemy.bindparam(name, type_=sqlalchemy.String) for name in self.parameters)
        )


class Database:
    """Connections are made when they are needed, and again when they were lost."""

    def __init__(self, url: str, connections: int, timeout_seconds: float) -> None:
        """ValueError, without the URL, if it leads to no database that can be asked."""
        self._engine = _engine(url, connections, timeout_seconds)

    async def rows(self, query: Query, values: Mapping[str, str | None]) -> Sequence[Row]:
        """Raises Unavailable."""
        try:
            try:
                return await self._fetch(query, values)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._fetch(query, values)  # the pool has let go of what was lost
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  # while it connects a driver raises its own
            raise _translated(error) from None

    async def close(self) -> None:
        """Closes what is kept open."""
        await self._engine.dispose()

    async def _fetch(self, query: Query, values: Mapping[str, str | None]) -> Sequence[Row]:
        given = {name: values[name] for name in query.parameters}
        async with self._engine.connect() as connection:
            result = await connection.execute(query.statement, given)
            missing = set(query.columns).difference(result.keys())
            if missing:
                raise Unavailable(f"the query has no column {min(missing)}")
            rows = [dict(row) for row in result.mappings().fetchmany(_ROWS_MAXIMUM + 1)]
        if len(rows) > _ROWS_MAXIMUM:
            raise Unavailable(f"over {_ROWS_MAXIMUM} rows")
        return rows


def _engine(url: str, connections: int, timeout_seconds: float) -> AsyncEngine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their text may have the password
        raise ValueError("not the URL of a database") from None
    try:
        return create_async_engine(
            parsed,
            pool_size=connections,
            max_overflow=0,
            pool_recycle=_RECYCLE_SECONDS,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",  # one exchange for a query, not three
            hide_parameters=True,
            connect_args=_connect_arguments(parsed, timeout_seconds),
        )
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{parsed.drivername} needs {error.name}, which is not installed; pip install 'moorline[sql]'"
            " brings the drivers postgresql+asyncpg and sqlite+aiosqlite"
        ) from None
    except (SQLAlchemyError, TypeError):
        raise ValueError(
            f"{parsed.drivername}: not a driver that can be used here, as postgresql+asyncpg and"
            " sqlite+aiosqlite (with a file) can"
        ) from None


def _connect_arguments(url: URL, timeout_seconds: float) -> dict[str, object]:
    if url.drivername == "postgresql+asyncpg":
        milliseconds = str(int(timeout_seconds * 1000))
        settings = {"application_name": "moorline", "statement_timeout": milliseconds}
        return {"timeout": timeout_seconds, "server_settings": settings}
    return {"timeout": timeout_seconds} if url.drivername == "sqlite+aiosqlite" else {}


def _translated(error: Exception) -> Unavailable:
    """What the error says, without the query and its parameters."""
    reason: object = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    line = next(iter(str(reason).splitlines()), "")[:_SHOWN]
    text = f"{type(error).__name__}: {line}"
    is_answer = isinstance(error, DBAPIError) and not error.connection_invalidated
    if is_answer and not isinstance(error, OperationalError | InterfaceError):
        return Unavailable(text)
    return Unreachable(text)
