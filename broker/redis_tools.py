"""`moorline redis`: what the administrator of a Redis needs who gives a broker no more than it must have."""

from typing import Annotated

import typer

from cluster.store import sentinel
from cluster.store.library import library_source
from cluster.store.rights import access_list

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
) -> None:
    """Print what the user of the nodes must be allowed: ACL SETUSER name on '>password' ..."""
    typer.echo(sentinel.access_list() if of_sentinels else access_list(prefix, may_load=not without_loading))


@app.command()
def library() -> None:
    """Print the function library of this release: ... | redis-cli -x FUNCTION LOAD REPLACE"""
    typer.echo(library_source(), nl=False)
