"""Who a session is to the store, and its place on the list of sessions that want something written or read
there."""


class StoredSession:
    """Identity of a session in Redis.

    `changed` is one list for all sessions of a node. A session puts itself there once; whoever takes it off
    resets `is_listed`. So the cost of a tick depends on how many sessions have something to say, not on how
    many there are.
    """

    __slots__ = ("bucket", "changed", "client_id", "epoch", "is_listed")

    def __init__(self, client_id: str, bucket: int, epoch: int, changed: "list[StoredSession]") -> None:
        self.client_id = client_id
        self.bucket = bucket
        self.epoch = epoch
        self.changed = changed
        self.is_listed = False

    def mark_changed(self) -> None:
        """Asks for a look at this session before the next batch leaves for the store."""
        if not self.is_listed:
            self.is_listed = True
            self.changed.append(self)
