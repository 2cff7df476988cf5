"""SCRAM-SHA-256 as a client that others have written does it; it also checks what the server proves."""

from scramp import (  # type: ignore[import-untyped]  # it has neither stubs nor a marker
    ScramClient,
    ScramException,
)

METHOD = "SCRAM-SHA-256"


class Refused(Exception):
    """The client does not begin, or does not go on."""


class ScramPeer:
    """One exchange."""

    def __init__(self, name: str, password: str) -> None:
        """Raises Refused if it can't have this name or password."""
        try:
            self._client = ScramClient([METHOD], name, password)
            self._first = str(self._client.get_client_first())
        except ScramException as error:
            raise Refused from error

    def first(self) -> bytes:
        """What it begins with."""
        return self._first.encode()

    def final(self, server_first: bytes) -> bytes:
        """What it answers to the challenge."""
        self._client.set_server_first(server_first.decode())
        return str(self._client.get_client_final()).encode()

    def check(self, server_final: bytes) -> None:
        """Raises Refused if the server does not know the keys."""
        try:
            self._client.set_server_final(server_final.decode())
        except ScramException as error:
            raise Refused from error
