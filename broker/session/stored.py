"""Who a session is to the store, and its place among the sessions that want something written or read
there."""


class Changes:
    """The sessions of a node that want something of the store, in the order in which they asked.

    So the cost of a tick depends on how many sessions have something to say, not on how many there are. If
    nothing `is_urgent` among it, nobody waits for it, and it may go with what comes next.
    """

    __slots__ = ("is_urgent", "sessions")

    def __init__(self) -> None:
        self.sessions: list[StoredSession] = []
        self.is_urgent = False

    def hasten(self) -> None:
        """What there is goes now."""
        if self.sessions:
            self.is_urgent = True

    def take(self) -> "list[StoredSession]":
        """The sessions, each once. Who asks from now on is on the next list."""
        sessions = self.sessions
        self.sessions = []
        self.is_urgent = False
        for stored in sessions:
            stored.is_listed = False
        return sessions


class StoredSession:
    """Identity of a session in Redis. `changed` is shared by all sessions of a node."""

    __slots__ = ("bucket", "changed", "client_id", "epoch", "is_listed")

    def __init__(self, client_id: str, bucket: int, epoch: int, changed: Changes) -> None:
        self.client_id = client_id
        self.bucket = bucket
        self.epoch = epoch
        self.changed = changed
        self.is_listed = False

    def mark_changed(self) -> None:
        """Asks for a look at this session before the next batch leaves for the store, and for that batch."""
        self.changed.is_urgent = True
        if not self.is_listed:
            self.is_listed = True
            self.changed.sessions.append(self)

    def mark_settled(self) -> None:
        """Asks for a look at this session before the next batch leaves. Nobody waits for what is to be
        written: if it gets lost, it happens again."""
        if not self.is_listed:
            self.is_listed = True
            self.changed.sessions.append(self)
