"""Enhanced authentication [4.12]: what an Authentication Method has to be able to do.

A method is an `EnhancedAuthenticator`. For each authentication it begins an `Exchange`, which gets what the
client has sent, step by step, and answers what is to be made of it. It knows nothing of packets and
connections; when it is asked, and what its answers lead to, is `broker.client`'s business.
"""

from dataclasses import dataclass
from typing import Protocol

from broker.auth.access import Identity
from broker.mqtt import ReasonCode


@dataclass(frozen=True, slots=True)
class Continue:
    """The client has to send more; `data` is for it. `username`: who it wants to be, if that is known by now:
    after many failures of a user its next step has to wait."""

    data: bytes | None = None
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """The client is who it says; `data` goes with the last packet to it. `username` is who that is,
    `identity` what else is known of it."""

    username: str | None
    data: bytes | None = None
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """It is not. `reason` is told to the client, too: nothing in there may help somebody who guesses.
    `username`: who it wanted to be, for the audit log."""

    reason: str = "not authorized"
    reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED
    username: str | None = None


Outcome = Continue | Success | Failure


class Exchange(Protocol):
    """One authentication under way."""

    async def step(self, client_data: bytes | None) -> Outcome:
        """What the client has sent, None if nothing: with CONNECT (or the AUTH that begins another
        authentication) at first, then with each AUTH. Not called again after Success or Failure."""


class EnhancedAuthenticator(Protocol):
    """An Authentication Method."""

    def begin(self, client_id: str, username: str | None) -> Exchange:
        """A client wants to be authenticated. `username` is the User Name of its CONNECT."""
