"""An HTTP server that is asked who clients are, and what they may do. What is sent and answered is close to
what EMQX sends and takes, so that a server may answer both.

Only an answer with status 200 and a `result` counts; one with status 204 is no opinion. Whatever else comes
is a failure: nobody is let in by it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson

from broker.auth.access import Access, Credentials, Decision, Denied, Identity, Unavailable, Verdict
from broker.auth.acl import EVERYTHING, are_texts, rules_of
from broker.auth.http_client import HttpClient
from broker.auth.remote import Remote

SOURCE: Final = "http"

_DECISIONS: Final = {
    "allow": Decision.ALLOW,
    "deny": Decision.DENY,
    "ignore": Decision.NO_OPINION,
}

Meaning = TypeVar("Meaning")


class _Hook:
    """One URL."""

    def __init__(self, client: HttpClient, remote: Remote) -> None:
        self._client = client
        self._remote = remote

    async def ask(
        self, address: str, question: Mapping[str, object], read: Callable[[bytes], Meaning]
    ) -> Meaning | None:
        """None: no opinion. Raises Unavailable, or Busy."""
        document = orjson.dumps(question)

        async def post() -> Meaning | None:
            body = await self._client.post(document)
            return None if body is None else read(body)

        return await self._remote.ask(address, post)


class HttpAuthenticator(_Hook):
    """Asks for each client that is not remembered."""

    async def authenticate(self, credentials: Credentials) -> Verdict:
        try:
            password = None if credentials.password is None else credentials.password.decode()
        except UnicodeDecodeError:
            return None  # JSON has no place for it
        certificate = credentials.certificate
        question = {
            "clientid": credentials.client_id,
            "username": credentials.username,
            "password": password,
            "peerhost": credentials.address,
            "listener": credentials.listener,
            "cert_common_name": certificate.common_name if certificate is not None else None,
            "cert_subject": certificate.subject if certificate is not None else None,
        }
        return await self.ask(credentials.address, question, lambda body: read_verdict(body, credentials))


class HttpAuthorizer(_Hook):
    """Asks for each topic that is not remembered."""

    async def authorize(self, access: Access) -> Decision:
        question = {
            "clientid": access.client_id,
            "username": access.identity.username,
            "groups": sorted(access.identity.groups),
            "peerhost": access.address,
            "cert_common_name": access.common_name,
            "action": access.action.value,
            "topic": access.topic,
            "qos": access.qos,
            "retain": access.retain,
        }
        decision = await self.ask(access.address, question, lambda body: _read(body, _decision))
        return Decision.NO_OPINION if decision is None else decision


def read_verdict(body: bytes, credentials: Credentials) -> Verdict:
    """What an answer about this client means. Raises Unavailable, with no part of the answer."""
    return _read(body, lambda answer: _verdict(answer, credentials))


def _read(body: bytes, read: Callable[[dict[str, Any]], Meaning]) -> Meaning:
    try:
        answer = orjson.loads(body)
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return read(answer)
    except orjson.JSONDecodeError:  # its text has parts of the answer
        raise Unavailable("answered what is not JSON") from None
    except ValueError as error:
        raise Unavailable(f"answered what can't be understood: {error}") from None


def _decision(answer: dict[str, Any]) -> Decision:
    result = answer.get("result")
    if not isinstance(result, str) or result not in _DECISIONS:
        raise ValueError("result is not allow, deny or ignore")
    return _DECISIONS[result]


def _verdict(answer: dict[str, Any], credentials: Credentials) -> Verdict:
    decision = _decision(answer)
    if decision is not Decision.ALLOW:
        return Denied() if decision is Decision.DENY else None
    username = answer.get("username") or credentials.username
    groups = answer.get("groups") or []
    is_superuser = answer.get("is_superuser") or False
    if not isinstance(username, str | None) or not are_texts(groups) or not isinstance(is_superuser, bool):
        raise ValueError("username, groups or is_superuser has the wrong type")
    acl = answer.get("acl")
    rules = None if acl is None else rules_of(acl)
    deadline = _deadline(answer)
    if deadline is not None and deadline <= time.time():
        return Denied()
    return Identity(username, frozenset(groups), EVERYTHING if is_superuser else rules, deadline, SOURCE)


def _deadline(answer: dict[str, Any]) -> float | None:
    end = answer.get("expire_at")
    if end is None:
        return None
    if isinstance(end, bool) or not isinstance(end, int | float):
        raise ValueError("expire_at is not a number of seconds since 1970")
    return float(end)
