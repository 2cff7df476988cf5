"""Inbound QoS 2: packet identifiers with their tokens, from PUBLISH to PUBREL, and who has which token."""

from collections.abc import Sequence


def receive(bucket: int, client_id: str, epoch: int, messages: Sequence[object], limit: int) -> list[object]:
    """Stores messages (packet identifier, token, ...) before they are routed.

    Answer, one per message: 0 new; [token, routed] stored before, route with this token unless routed; -1
    more than `limit` would be open. 0 in place of the list if the epoch is stale.
    """
    return ["receive", bucket, client_id, epoch, messages, limit]


def routed(bucket: int, client_id: str, epoch: int, packet_ids: Sequence[int]) -> list[object]:
    """Messages have been routed. Answer: 1, or 0 if the epoch is stale."""
    return ["routed", bucket, client_id, epoch, packet_ids]


def release_received(bucket: int, client_id: str, epoch: int, packet_ids: Sequence[int]) -> list[object]:
    """PUBREL has come. Answer: the token of each or False; 0 in place of the list if the epoch is stale."""
    return ["release_received", bucket, client_id, epoch, packet_ids]


def settle_tokens(bucket: int, tokens: Sequence[bytes]) -> list[object]:
    """Handshakes have ended: the bucket forgets their tokens in a minute. Answer: 1."""
    return ["settle_tokens", bucket, tokens]
