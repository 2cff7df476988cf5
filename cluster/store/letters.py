"""Dead letters: messages that were dropped, and why. The functions that drop write their own."""

from cluster.store.keys import bucket_of


def letter(client_id: str, topic: str, reason: str) -> list[object]:
    """Notes that a message for this client was dropped. Answer: 1."""
    return ["letter", bucket_of(client_id), client_id, topic, reason]
