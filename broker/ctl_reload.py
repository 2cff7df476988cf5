"""`moorline ctl reload`: settings have changed where nodes have them from."""

from typing import Annotated

import typer

from broker.ctl import EXIT_REFUSED, LOCAL, AdminOption, JsonOption, ask, print_json


def reload(
    admin: AdminOption = LOCAL,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Only this one; its name, or incarnation.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have nodes read their settings again, and apply what can change while they run.

    With a mistake nothing changes on that node. Exit code 1 if there were any, or a node said nothing."""
    answer, _ = ask(admin, "POST", "/settings/reload", {"node": node})
    if as_json:
        print_json(answer)
    else:
        for each in answer["nodes"]:
            typer.echo(f"{each['node']}: {_result(each['applied'], each['mistakes'])}")
            for name in each["restart"]:
                typer.echo(f"  restart needed: {name}")
            for mistake in each["mistakes"]:
                typer.echo(f"  {mistake}", err=True)
        for name, reason in answer["silent"].items():
            typer.echo(f"{name}: {reason}", err=True)
    if answer["silent"] or any(each["mistakes"] for each in answer["nodes"]):
        raise typer.Exit(EXIT_REFUSED)


def _result(applied: list[dict[str, object]], mistakes: list[str]) -> str:
    if mistakes:
        return f"nothing was changed, there are {len(mistakes)} mistakes"
    changes = ", ".join(f"{each['name']} {each['from']} -> {each['to']}" for each in applied)
    return changes or "nothing to apply"
