"""`moorline ctl review`: rights were changed where nodes can't see it."""

import typer

from broker.ctl import EXIT_REFUSED, LOCAL, AdminOption, JsonOption, ask, print_json, print_table


def review(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Ask databases, HTTP servers and plug-ins again what connected clients may do, on all nodes.

    Subscriptions that a client may not have any more end. For files and Redis nobody has to ask."""
    answer, _ = ask(admin, "POST", "/auth/review", {})
    if as_json:
        print_json(answer)
    else:
        fields = ("node", "clients", "revoked", "unsure", "done")
        rows = [[str(node[field]).lower() for field in fields] for node in answer["nodes"]]
        print_table([[field.upper() for field in fields], *rows])
        for node, reason in answer["silent"].items():
            typer.echo(f"{node}: {reason}", err=True)
    if answer["silent"]:
        raise typer.Exit(EXIT_REFUSED)
