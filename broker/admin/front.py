"""What a browser needs beside the API: the dashboard's files, and the way in."""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from broker.admin.door import Door
from broker.admin.login import login_routes
from broker.admin.pages import page_routes


def front_routes(door: Door) -> Sequence[BaseRoute]:
    """For an admin address behind that door, before those of `make_api`."""
    return [*page_routes(), *login_routes(door)]
