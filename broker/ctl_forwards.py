"""`moorline ctl forwards`: where messages go beside the clients."""

from broker.ctl import LOCAL, AdminOption, JsonOption, ask, print_json, print_table, text
from broker.watching import watched

_FIELDS = (
    *("name", "kind", "state", "since", "node", "waiting"),
    *("sent", "received", "failed", "refused", "dropped", "last_error"),
)


@watched
def forwards(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """List the forwards: whether they run, where, what waits, and what went wrong last."""
    answer, _ = ask(admin, "GET", "/forwards")
    if as_json:
        print_json(answer)
        return
    rows = [[text(forward[field]) for field in _FIELDS] for forward in answer["forwards"]]
    print_table([[field.upper().replace("_", "-") for field in _FIELDS], *rows])
