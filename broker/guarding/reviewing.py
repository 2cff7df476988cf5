"""Rights that were changed where a node can't see it: in a database, behind an HTTP server, in a plug-in."""

from dataclasses import asdict
from typing import Final

import anyio

from broker.client import Hub, Review, review_all, revoke
from broker.guarding.parts import Guarding

_WAIT_SECONDS: Final = 2.0


async def review_rights(hub: Hub, guarding: Guarding, _: bytes) -> object:
    """Forgets what is remembered, and asks about the subscriptions of all clients anew. What has come of it
    so far; if `done` is false it goes on."""
    for forget in guarding.forgets:
        forget()
    seen = Review()
    done = anyio.Event()

    async def review() -> None:
        await review_all(hub, revoke, seen)
        done.set()

    hub.spawn(review())
    with anyio.move_on_after(_WAIT_SECONDS):
        await done.wait()
    return asdict(seen) | {"done": done.is_set()}
