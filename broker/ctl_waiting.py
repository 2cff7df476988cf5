"""`moorline ctl subscriptions`, `shared`, `letters`, `queue`: who gets what, what waits, what was dropped."""

from typing import Annotated, Final

import typer

from broker.ctl import LOCAL, AdminOption, JsonOption
from broker.ctl_clients import AfterOption, ClientArgument, LimitOption, print_list
from broker.watching import watched

ClientOption = Annotated[
    str | None, typer.Option("--client", metavar="CLIENT_ID", help="Of this client only.")
]

_SUBSCRIPTION_COLUMNS: Final = (
    *("filter", "client_id", "qos", "no_local", "retain_as_published", "retain_handling"),
    "subscription_identifier",
)


def add_commands(app: typer.Typer) -> None:
    """To `moorline ctl`."""
    app.command()(subscriptions)
    app.command()(shared)
    app.command()(letters)
    app.command()(queue)


@watched
def subscriptions(
    filter: Annotated[str, typer.Argument(metavar="[PREFIX]", help="How the Topic Filter begins.")] = "",
    client: Annotated[
        str | None, typer.Option("--client", metavar="CLIENT_ID", help="Of one session.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="Those that match this Topic Name.")
    ] = None,
    limit: LimitOption = 100,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """List subscriptions: whose filters begin so, those of a client, or those that match a topic."""
    if sum(bool(each) for each in (filter, client, topic)) > 1:
        raise typer.BadParameter("only one of PREFIX, --client and --topic")
    query = {"filter": filter, "client_id": client, "topic": topic}
    print_list(admin, "subscriptions", query, limit, after, _SUBSCRIPTION_COLUMNS, as_json)


@watched
def shared(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="How GROUP/FILTER begins.")] = "",
    limit: LimitOption = 100,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """List shared subscriptions: messages that nobody has, that members have, members that are connected."""
    columns = ("group", "filter", "waiting", "given", "members")
    print_list(admin, "shared", {"prefix": prefix}, limit, after, columns, as_json)


@watched
def letters(
    client: Annotated[
        str | None, typer.Option("--client", metavar="CLIENT_ID", help="Of one client.")
    ] = None,
    limit: LimitOption = 100,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, newest first: messages that somebody did not get, and why."""
    columns = ("at", "client_id", "topic", "reason")
    print_list(admin, "letters", {"client_id": client}, limit, after, columns, as_json)


@watched
def queue(
    client_id: ClientArgument,
    from_tail: Annotated[bool, typer.Option("--tail", help="Newest first.")] = False,
    limit: LimitOption = 20,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """Show what waits for a session, oldest first, without payloads."""
    query = {"client_id": client_id, "from": "tail" if from_tail else None}
    columns = ("n", "topic", "qos", "retain", "bytes", "expires_at")
    print_list(admin, "queue", query, limit, after, columns, as_json)
