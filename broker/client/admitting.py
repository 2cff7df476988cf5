"""CONNECT: who the client is, and whether its will may be published; before anything is claimed for it. Where
somebody has to be asked: `broker.client.consulting`."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from broker.auth import (
    ANONYMOUS,
    Access,
    Action,
    Credentials,
    Denied,
    Identity,
    PeerCertificate,
    Rights,
    peer_certificate,
)
from broker.client.client import Client
from broker.client.consulting import authenticate, decide
from broker.client.guard import Guard
from broker.mqtt import Connect, ReasonCode

_LONGEST_SECONDS: Final = 366 * 86_400.0  # what a timer can be set to has a limit


class Refuse(Protocol):
    """Answers the CONNECT: Reason Code, and what people are told."""

    def __call__(self, reason_code: ReasonCode, reason: str) -> None: ...


def admit(client: Client, packet: Connect, accept: Callable[[], None], refuse: Refuse) -> None:
    """Calls one of the two, for a client that names no Authentication Method."""
    guard = client.hub.guard
    if guard is None:
        accept()
    elif guard.chain_of(client.entrance.name).is_asked:
        credentials = Credentials(
            client.client_id,
            packet.username,
            packet.password,
            client.address,
            client.entrance.kind,
            certificate_of(client),
        )
        # Who says nothing guesses nothing.
        judge = partial(_judge, client, packet, credentials.are_given, accept, refuse)
        client.hub.spawn(authenticate(client, guard, credentials, judge))
    else:
        admit_as(ANONYMOUS, client, packet, accept, refuse)


def admit_as(
    identity: Identity, client: Client, packet: Connect, accept: Callable[[], None], refuse: Refuse
) -> None:
    """The same for one that is known to be who it says."""
    guard = client.hub.guard
    if guard is None:
        accept()
        return
    certificate = certificate_of(client)
    rights = Rights(
        guard.authorization,
        identity,
        client.client_id,
        client.address,
        listener=client.entrance.name,
        common_name=certificate.common_name if certificate is not None else None,
    )
    client.rights = rights
    will = packet.will
    if will is None:
        accept()
        return
    access = rights.access(Action.PUBLISH, will.topic, will.qos, will.retain)
    is_allowed = rights.decide_now(access)
    if is_allowed is None:
        judge = partial(_judge_will, guard, access, accept, refuse)
        client.hub.spawn(decide(client, rights, access, judge))
    else:
        _judge_will(guard, access, accept, refuse, is_allowed)


def certificate_of(client: Client) -> PeerCertificate | None:
    """What the client proved itself by to the listener, if to that."""
    transport = client.transport
    return peer_certificate(transport.get_extra_info("peercert")) if transport is not None else None


def _judge(
    client: Client,
    packet: Connect,
    is_guess: bool,
    accept: Callable[[], None],
    refuse: Refuse,
    verdict: Identity | Denied,
) -> None:
    note_verdict(client, packet.username, verdict, is_guess=is_guess)
    if isinstance(verdict, Denied):
        refuse(verdict.reason_code, "not authorized")
        return
    client.username = verdict.username or ""
    end_in_time(client, verdict)
    admit_as(verdict, client, packet, accept, refuse)


def note_verdict(
    client: Client,
    username: str | None,
    verdict: Identity | Denied,
    event: str = "connect",
    *,
    is_guess: bool = True,
) -> None:
    """Counts it, also against who guesses, and records who was denied, by the name that it gave."""
    banning = client.hub.banning
    if not isinstance(verdict, Denied):
        banning.note_success(verdict.username)
    elif is_guess:
        banning.note_failure(verdict.reason_code, username, client.address, time.monotonic())
    guard = client.hub.guard
    if guard is None:
        return
    guard.counters.authentications.add(_result(verdict))
    if isinstance(verdict, Denied):
        guard.audit.denied(
            event,
            client_id=client.client_id,
            username=username,
            address=client.address,
            listener=client.entrance.kind,
            reason_code=verdict.reason_code.name.lower(),
        )


def _result(verdict: Identity | Denied) -> str:
    if isinstance(verdict, Denied):
        return verdict.reason_code.name.lower()
    return "anonymous" if verdict.username is None else "accepted"


def end_in_time(client: Client, identity: Identity) -> None:
    """Nobody stays longer than what let them in is valid; by another authentication that is another time."""
    if client.expiry is not None:
        client.expiry.cancel()
        client.expiry = None
    if identity.deadline is not None:
        left_seconds = min(max(0.0, identity.deadline - time.time()), _LONGEST_SECONDS)
        client.expiry = asyncio.get_running_loop().call_later(left_seconds, _expire, client)


def _expire(client: Client) -> None:
    # "The maximum connection time authorized for this connection has been exceeded" [MQTT 5: 3.14.2.1]
    client.close(ReasonCode.MAXIMUM_CONNECT_TIME, "what authenticated the client is not valid any more")
    client.hub.after_input()


def _judge_will(
    guard: Guard, access: Access, accept: Callable[[], None], refuse: Refuse, is_allowed: bool
) -> None:
    if is_allowed:
        accept()
    else:
        guard.note_denied("will", [access])
        refuse(ReasonCode.NOT_AUTHORIZED, "the will may not be published")
