"""The database that is asked about clients."""

from contextlib import suppress

import anyio

from broker.auth import Authorizer, Link, Unavailable
from broker.auth.gate import Busy
from broker.auth.remote import Remote
from broker.client import Hub
from broker.errors import StartError
from broker.guarding.parts import Parts, until_stopped
from broker.settings.auth_sql import SQL_PARAMETERS

try:
    from broker.auth.database import Database, Query
    from broker.auth.sql import ACL_COLUMNS, SOURCE, USER_COLUMNS, SqlAuthenticator, SqlAuthorizer, Table
except ModuleNotFoundError as error:
    raise StartError(f"auth.sql_url needs {error.name}: pip install 'moorline[sql]'") from None


def sql_authenticator(parts: Parts, query: str) -> Link:
    """By `auth.sql_user_query`."""
    table = _table(parts, "user", query, USER_COLUMNS)
    return Link(SOURCE, SqlAuthenticator(table, parts.hashing(), parts.cache()))


def sql_authorizer(parts: Parts, query: str) -> tuple[str, Authorizer]:
    """By `auth.sql_acl_query`, with its name."""
    auth = parts.settings.auth
    table = _table(parts, "acl", query, ACL_COLUMNS)
    authorizer = SqlAuthorizer(table, auth.cache_seconds, auth.cache_entries)
    parts.forgets.append(authorizer.forget)
    return SOURCE, authorizer


def _table(parts: Parts, name: str, text: str, columns: tuple[str, ...]) -> Table:
    auth = parts.settings.auth
    try:
        query = Query(text, SQL_PARAMETERS, columns)
    except ValueError as error:
        raise StartError(f"auth.sql_{name}_query: {error}") from None
    try:
        database = Database(_url(parts), auth.sql_connections, auth.timeout_seconds)
    except ValueError as error:
        raise StartError(f"auth.sql_url: {error}") from None
    remote = Remote(f"sql_{name}", auth.sql_connections, auth.sql_queue, parts.counters.auth_requests)
    table = Table(database, query, remote)

    async def try_out(hub: Hub) -> None:
        """A query with a mistake is told before clients come."""
        with suppress(Unavailable, Busy), anyio.move_on_after(auth.timeout_seconds):
            await remote.ask("", lambda: table.ask((None, "", "")))

    parts.watches.append(try_out)
    parts.watches.append(until_stopped(database.close))
    return table


def _url(parts: Parts) -> str:
    auth = parts.settings.auth
    if auth.sql_url_file is None:
        return auth.sql_url or ""
    try:
        return auth.sql_url_file.read_text().strip()
    except OSError as error:
        raise StartError(f"auth.sql_url_file: {auth.sql_url_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"auth.sql_url_file: {auth.sql_url_file}: not UTF-8") from None
