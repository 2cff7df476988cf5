"""`moorline ctl alarms`: what deserves somebody's attention."""

import typer

from broker.ctl import EXIT_REFUSED, LOCAL, AdminOption, JsonOption, ask, print_json, print_table, text
from broker.watching import watched


@watched
def alarms(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """List the alarms that are raised in the cluster; exit code 1 if there is any."""
    answer, _ = ask(admin, "GET", "/alarms?limit=500")
    if as_json:
        print_json(answer)
    else:
        fields = ("severity", "name", "node", "since", "text", "runbook")
        rows = [[text(alarm[field]) for field in fields] for alarm in answer["alarms"]]
        if rows:
            print_table([[field.upper() for field in fields], *rows])
        if answer["incomplete"]:
            typer.echo("Redis does not answer: these are of the node that was asked", err=True)
    if answer["alarms"] or answer["incomplete"]:
        raise typer.Exit(EXIT_REFUSED)
