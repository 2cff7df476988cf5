"""Who a client is, and what it may do: the words that mechanisms and connections have in common.

An `Authenticator` looks at what a client says of itself; an `Authorizer` is asked about each thing it wants
to do. Both are small, as plug-ins are to implement them: the entry points `moorline.authenticators` and
`moorline.authorizers` name functions without arguments that make one. They may take their time: it is
bounded, and only this client waits. What they raise counts as a failure, and is logged.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from broker.auth.peer_certificate import PeerCertificate
from broker.mqtt import ReasonCode


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a CONNECT says, and what is known of its connection. `address` has no port; `listener` is the kind
    of the listener, such as `tls`; `certificate` was verified by it."""

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    address: str
    listener: str
    certificate: PeerCertificate | None = None

    @property
    def certificate_subject(self) -> str | None:
        """The common name in the certificate."""
        return self.certificate.common_name if self.certificate is not None else None

    @property
    def are_given(self) -> bool:
        """Whether the client says at all who it is."""
        return self.username is not None or self.password is not None


class Action(Enum):
    """What a client wants to do with a topic or filter."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Decision(Enum):
    """Of an authorizer; with no opinion the next one is asked."""

    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


class Decider(Protocol):
    """One that need not ask anybody, and looks at neither QoS nor RETAIN."""

    def decide(self, access: "Access") -> Decision:
        """Whether that is allowed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client was found to be. `username` None: nobody knows. `rules` came with it; at `deadline`, in
    seconds since 1970, it ends, and so does the connection. `source`: what has found it out; `proof`: by
    what, if that may be withdrawn; `version`: of what it knew of the user, if that counts."""

    username: str | None
    groups: frozenset[str] = frozenset()
    rules: Decider | None = None
    deadline: float | None = None
    source: str = ""
    proof: object = field(default=None, repr=False, compare=False)
    version: int = 0


ANONYMOUS = Identity(None)


@dataclass(frozen=True, slots=True)
class Denied:
    """The client is not let in. No text: it might help somebody who guesses."""

    reason_code: ReasonCode = ReasonCode.BAD_USER_NAME_OR_PASSWORD


Verdict = Identity | Denied | None
"""None: no opinion, the next one is asked."""


class Unavailable(Exception):
    """Whoever is asked can't find out now. It is no fault of ours, and its text has no part of a password.
    Who raises it has seen to it that people are told, not too often: nothing more is logged."""


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that a client wants to do. `topic` is a Topic Filter for SUBSCRIBE, without
    `$share/<group>/` and `$exclusive/`. `listener`: its name; `common_name`: of the client's certificate."""

    identity: Identity
    client_id: str
    address: str
    action: Action
    topic: str
    qos: int = 0
    retain: bool = False
    listener: str = ""
    common_name: str | None = None


class Authenticator(Protocol):
    """Finds out who a client is."""

    async def authenticate(self, credentials: Credentials) -> Verdict:
        """An identity lets it in."""


class Authorizer(Protocol):
    """Knows what a client may do."""

    async def authorize(self, access: Access) -> Decision:
        """May be remembered for a while for this connection."""
