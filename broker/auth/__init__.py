"""Who may connect, publish and subscribe: mechanisms and rules. What connections make of the answers is the
business of `broker.client`."""

from broker.auth.access import (
    ANONYMOUS,
    Access,
    Action,
    Authenticator,
    Authorizer,
    Credentials,
    Decider,
    Decision,
    Denied,
    Identity,
    Unavailable,
    Verdict,
)
from broker.auth.audit import Audit
from broker.auth.authorization import Authorization, Rights
from broker.auth.chain import AuthenticatorChain, Link
from broker.auth.enhanced import Continue, EnhancedAuthenticator, Exchange, Failure, Outcome, Success
from broker.auth.peer_certificate import PeerCertificate, peer_certificate
from broker.auth.user import StoredUser

__all__ = [
    "ANONYMOUS",
    "Access",
    "Action",
    "Audit",
    "Authenticator",
    "AuthenticatorChain",
    "Authorization",
    "Authorizer",
    "Continue",
    "Credentials",
    "Decider",
    "Decision",
    "Denied",
    "EnhancedAuthenticator",
    "Exchange",
    "Failure",
    "Identity",
    "Link",
    "Outcome",
    "PeerCertificate",
    "Rights",
    "StoredUser",
    "Success",
    "Unavailable",
    "Verdict",
    "peer_certificate",
]
