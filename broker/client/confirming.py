"""What a CONNECT and its session have to do with durability levels."""

from collections.abc import Callable

from broker.client.client import Client
from broker.observability.logs import get_logger
from broker.session import STORED, Promises

logger = get_logger(__name__)


def when_confirmed(client: Client, action: Callable[[], None]) -> None:
    """Does it when the session is kept as well as the client's listener asks; at once if the client goes, so
    that the session is given back."""
    confirmations = client.hub.confirmations
    level = client.entrance.level
    if confirmations is None or level == STORED or client.is_closed:
        action()
        return

    def confirmed() -> None:
        client.awaiting = None
        try:
            action()
        except Exception:  # our bug must not harm the others that wait
            logger.exception(
                "what was to follow a confirmation failed", extra={"client_id": client.client_id}
            )
            client.close_for_bug()

    client.awaiting = confirmations.wait(level, client, confirmed)


def promises_of(client: Client) -> Promises | None:
    """Where it is noted what the client is owed; None if all is acknowledged as soon as it is stored."""
    confirmations = client.hub.confirmations
    if confirmations is None or client.entrance.is_internal:
        return None
    return Promises(confirmations, client.entrance.level)
