"""What bans do to clients, and how they come about: all that takes time. Who is banned:
`broker.client.banning`."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from broker.auth.ban import Ban, Target
from broker.client.noting import note_sent_away
from broker.mqtt import ReasonCode

if TYPE_CHECKING:  # they need each other
    from broker.client.banning import Banning
    from broker.client.client import Client
    from broker.client.hub import Hub

_CLIENTS_AT_A_TIME: Final = 200

Impose = Callable[[Target, str, float], Coroutine[object, object, None]]
"""Has somebody banned in the whole cluster: whom, why, for how many seconds."""


async def delay(banning: "Banning", username: str | None, now: float) -> None:
    """Waits, if there were too many failures of this user name."""
    seconds = banning.begin_delay(username, now)
    if not seconds:
        return
    try:
        await anyio.sleep(seconds)
    finally:
        banning.end_delay()


async def have_banned(
    impose: Impose, target: Target, reason: str, seconds: float, asked: set[Target]
) -> None:
    """`asked`: whose bans are on their way."""
    try:
        await impose(target, reason, seconds)
    finally:
        asked.discard(target)


def on_bans_added(hub: "Hub", bans: Sequence[Ban]) -> None:
    """Clients that are connected go, unless the bans came by themselves. Of many bans at a time few looks
    come."""
    banning = hub.banning
    if all(ban.is_automatic for ban in bans):
        return
    banning.looks_wanted += 1
    if banning.looks_wanted == 1:
        hub.spawn(_expel_all(hub))


async def _expel_all(hub: "Hub") -> None:
    banning = hub.banning
    try:
        while banning.looks_wanted:
            wanted = banning.looks_wanted
            await _expel(hub)
            banning.looks_wanted -= wanted
    finally:
        banning.looks_wanted = 0


async def _expel(hub: "Hub") -> None:
    """Looks at all connections, with pauses for what else there is to do."""
    for number, client in enumerate(list(hub.connections), 1):
        if not client.is_closed and not client.entrance.is_internal and _is_banned(hub, client):
            _send_away(hub, client)
        if number % _CLIENTS_AT_A_TIME == 0:
            hub.after_input()
            await anyio.lowlevel.checkpoint()
    hub.after_input()


def _is_banned(hub: "Hub", client: "Client") -> bool:
    bans, now_ms = hub.banning.bans, hub.clock.now_ms
    found = (
        bans.find_address(client.address, now_ms, only_set=True)
        or bans.find_user(client.username or None, now_ms, only_set=True)
        or bans.find_client(client.client_id, client.address, now_ms, only_set=True)
    )
    return found is not None


def _send_away(hub: "Hub", client: "Client") -> None:
    # DISCONNECT can't say 0x8A [3.14.2.1]; a CONNACK can.
    reason_code = ReasonCode.BANNED if client.session is None else ReasonCode.ADMINISTRATIVE_ACTION
    hub.banning.counters.disconnected += 1
    note_sent_away(client, "banned")
    client.close(reason_code, "banned")
