"""Users that are kept in a store have changed: what becomes of the clients that are these users.

A client goes if its user does not exist any more, was disabled, or has got another password since the client
came in. Else it gets the groups and rules that the user has now. Versions say which of two is newer, so it
makes no difference when, and how often, it is looked at.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final

import anyio.lowlevel

from broker.auth import StoredUser
from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.permitting import review
from broker.client.subscribing import revoke
from broker.mqtt import ReasonCode

_USERS_AT_A_TIME: Final = 100

FindAll = Callable[[Collection[str]], Awaitable[Mapping[str, StoredUser | None]]]
"""Users as they are now."""


async def renew_users(
    hub: Hub, sources: Collection[str], names: Collection[str] | None, find_all: FindAll
) -> None:
    """Looks at the clients that came in by these `sources` as these users; names None: as anybody. Raises
    what `find_all` does; then it is to be called again."""
    here = {name for client in hub.connections if (name := _name(client, sources)) is not None}
    wanted = list(here if names is None else here.intersection(names))
    for first in range(0, len(wanted), _USERS_AT_A_TIME):
        users = await find_all(wanted[first : first + _USERS_AT_A_TIME])
        # In doubt clients may be waiting to be let in: they are looked at after that.
        hub.when_sure(partial(_judge_all, hub, sources, users))
        await anyio.lowlevel.checkpoint()


def _name(client: Client, sources: Collection[str]) -> str | None:
    """Of a client that came in by one of these."""
    identity = client.rights.identity if client.rights is not None else None
    return identity.username if identity is not None and identity.source in sources else None


def _judge_all(hub: Hub, sources: Collection[str], users: Mapping[str, StoredUser | None]) -> None:
    for client in list(hub.connections):
        name = _name(client, sources)
        if name is not None and name in users:
            _judge(client, users[name])


def _judge(client: Client, stored: StoredUser | None) -> None:
    rights = client.rights
    assert rights is not None
    before = rights.identity
    if stored is None or not stored.user.is_enabled or stored.credentials_version > before.version:
        client.close(ReasonCode.NOT_AUTHORIZED, "the user name or password is not valid any more")
        return
    if stored.version <= before.version:
        return
    was_governed = rights.governs_publishing
    rights.replace_identity(stored.identity(before.source))
    if rights.governs_publishing != was_governed:  # its session was made for the one or the other
        client.close(ReasonCode.NOT_AUTHORIZED, "other rules hold for the user now")
        return
    client.hub.spawn(review(client, revoke))
