"""What the audit log says of clients that are sent away."""

from typing import TYPE_CHECKING

from broker.observability.audit import record

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client


def note_sent_away(client: "Client", reason: str) -> None:
    """Before it is disconnected, as something does not hold any more."""
    record(
        "disconnected",
        client_id=client.client_id,
        username=client.username or None,
        address=client.address,
        reason=reason,
    )
