"""What the audit log says of clients that are let in, and sent away."""

from typing import TYPE_CHECKING

from broker.observability.audit import audit_logger, record, record_login

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client


def note_login(client: "Client") -> None:
    """It was let in."""
    if audit_logger.handlers:  # else there is nowhere to record it
        record_login(
            client_id=client.client_id,
            username=client.username or None,
            address=client.address,
            listener=client.entrance.kind,
            source=client.rights.identity.source or None if client.rights is not None else None,
        )


def note_sent_away(client: "Client", reason: str) -> None:
    """Before it is disconnected, as something does not hold any more."""
    record(
        "disconnected",
        client_id=client.client_id,
        username=client.username or None,
        address=client.address,
        reason=reason,
    )
