"""Addresses of IPv6 that count on one network card only."""

import socket
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from broker.errors import StartError
from broker.listeners.tcp import bind_tcp, bound_address
from broker.settings import Address, parse_address

CARD = socket.if_nametoindex("lo")


def test_where_a_socket_is_bound() -> None:
    def bound_to(name: tuple[object, ...]) -> Address:
        return bound_address(cast(socket.socket, SimpleNamespace(getsockname=lambda: name)))

    assert bound_to(("127.0.0.1", 5)) == Address("127.0.0.1", 5)
    assert bound_to(("::1", 5, 0, 0)) == Address("::1", 5)
    for host in ("fe80::1", "fe80::1%lo"):  # as the system has it
        assert bound_to((host, 5, 0, CARD)) == parse_address("[fe80::1%lo]:5")


def test_the_card_is_not_forgotten() -> None:
    """It is this machine that does not have the address, not the address that is none."""
    with pytest.raises(StartError, match=r"can't listen on \[fe80::77%lo\]:0: Cannot assign"):
        anyio.run(bind_tcp, Address("fe80::77%lo", 0), backend_options={"use_uvloop": True})
