"""`moorline redis`: what the administrator of a Redis needs who gives a broker no more than it must have,
and the way of its keys to a newer release."""

from typing import Annotated

import anyio
import typer

from broker.errors import MoorlineError, SettingsError
from broker.flags import Sources, with_sources
from broker.process import given_url, server_files
from cluster.store import sentinel
from cluster.store.connection import open_connection
from cluster.store.endpoint import Endpoint, parse_url
from cluster.store.finding import finder_of
from cluster.store.library import library_source
from cluster.store.migration import Migration
from cluster.store.rights import access_list
from cluster.store.server import check_server

app = typer.Typer(no_args_is_help=True, help="Tell what a Redis of your own needs.")


@app.command()
def acl(
    prefix: Annotated[str, typer.Option(help="Beginning of all keys, as in redis.prefix.")] = "mq:",
    without_loading: Annotated[
        bool, typer.Option("--without-loading", help="For nodes whose function library somebody else loads.")
    ] = False,
    of_sentinels: Annotated[
        bool, typer.Option("--sentinel", help="That of the sentinels, which have users of their own.")
    ] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="For nodes on a Redis Cluster.")] = False,
) -> None:
    """Print what the user of the nodes must be allowed: ACL SETUSER name on '>password' ..."""
    if of_sentinels:
        typer.echo(sentinel.access_list())
    else:
        typer.echo(access_list(prefix, may_load=not without_loading, in_cluster=cluster))


@app.command()
def library() -> None:
    """Print the function library of this release: ... | redis-cli -x FUNCTION LOAD REPLACE"""
    typer.echo(library_source(), nl=False)


@app.command()
@with_sources
def migrate(
    sources: Sources,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
) -> None:
    """Bring the keys of an older release to the schema of this one. Takes the flags of serve; nodes must
    have left."""
    try:
        settings = sources.read()
        url = given_url(settings.redis)
        if url is None:
            raise typer.BadParameter(
                "which Redis? A private one has to be started by itself", param_hint="--redis"
            )
        endpoint = parse_url(url, server_files(settings.redis))
        anyio.run(_migrate, endpoint, settings.redis.prefix, settings.redis.exchange_timeout_seconds, dry_run)
    except SettingsError as error:
        typer.echo("\n".join(error.mistakes), err=True)
        raise typer.Exit(2) from None
    except MoorlineError as error:
        typer.echo(f"moorline redis: {error}", err=True)
        raise typer.Exit(1) from None


async def _migrate(endpoint: Endpoint, prefix: str, seconds: float, dry_run: bool) -> None:
    finder = finder_of(endpoint)
    try:
        connection = await open_connection(await finder.primary(), "moorline-migrate", seconds, seconds)
        try:
            await check_server(connection)
            await Migration(connection, prefix, typer.echo).run(is_dry=dry_run)
        finally:
            await connection.aclose()
    finally:
        finder.close()
