"""Users that are kept in a store have changed: what becomes of the clients that are these users.

A client goes if its user does not exist any more, was disabled, or has got another password since the client
came in. Else it gets the groups and rules that the user has now. Versions say which of two is newer, so it
makes no difference when, and how often, it is looked at.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

import anyio.lowlevel

from broker.auth import Identity, StoredUser
from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.noting import note_sent_away
from broker.client.permitting import review
from broker.client.subscribing import revoke
from broker.mqtt import ReasonCode
from cluster.store.errors import StoreUnavailable

_USERS_AT_A_TIME: Final = 100
_CLIENTS_AT_A_TIME: Final = 100
_LOOKS_AT_A_TIME: Final = 2_000

FindAll = Callable[[Collection[str]], Awaitable[Mapping[str, StoredUser | None]]]
"""Users as they are now."""


async def renew_users(
    hub: Hub, sources: Collection[str], names: Collection[str] | None, find_all: FindAll
) -> None:
    """Looks at the clients that came in by these `sources` as these users; names None: as anybody. Pauses now
    and then for what else there is to do. Raises StoreUnavailable if that is not possible now, and what
    `find_all` does; then it is to be called again."""
    if hub.pulse.in_doubt or hub.held:  # clients that were let in may be among what is held
        raise StoreUnavailable("the node is in doubt")
    clients = await _clients_of(hub, sources, names)
    wanted = list(clients)
    for first in range(0, len(wanted), _USERS_AT_A_TIME):
        users = await find_all(wanted[first : first + _USERS_AT_A_TIME])
        found = [(client, user) for name, user in users.items() for client in clients[name]]
        for start in range(0, len(found), _CLIENTS_AT_A_TIME):
            hub.when_sure(partial(_judge_all, found[start : start + _CLIENTS_AT_A_TIME]))
            await anyio.lowlevel.checkpoint()


async def _clients_of(
    hub: Hub, sources: Collection[str], names: Collection[str] | None
) -> Mapping[str, Sequence[Client]]:
    found: dict[str, list[Client]] = {}
    for number, client in enumerate(list(hub.connections), 1):
        name = _name(client, sources)
        if name is not None and (names is None or name in names):
            found.setdefault(name, []).append(client)
        if number % _LOOKS_AT_A_TIME == 0:
            await anyio.lowlevel.checkpoint()
    return found


def _name(client: Client, sources: Collection[str]) -> str | None:
    """Of a client that came in by one of these."""
    identity = client.rights.identity if client.rights is not None else None
    return identity.username if identity is not None and identity.source in sources else None


def _judge_all(found: Sequence[tuple[Client, StoredUser | None]]) -> None:
    for client, user in found:
        if not client.is_closed:
            _judge(client, user)


def _judge(client: Client, stored: StoredUser | None) -> None:
    rights = client.rights
    assert rights is not None
    before = rights.identity
    if stored is None or not stored.user.is_enabled or stored.credentials_version > before.version:
        _send_away(client, "the user name or password is not valid any more")
        return
    if stored.version > before.version:
        renew_identity(client, stored.identity(before.source))


def renew_identity(client: Client, identity: Identity) -> None:
    """More, or other things, are known of who the client is: it is held to them."""
    rights = client.rights
    if rights is None or rights.identity == identity:
        return
    was_governed = rights.governs_publishing
    rights.replace_identity(identity)
    if rights.governs_publishing != was_governed:  # its session was made for the one or the other
        _send_away(client, "other rules hold for the user now")
        return
    client.hub.spawn(review(client, revoke))


def _send_away(client: Client, reason: str) -> None:
    note_sent_away(client, "credentials")
    client.close(ReasonCode.NOT_AUTHORIZED, reason)
