"""Which clients of this node are members of which shared subscriptions."""

from broker.session import Delivery, Session
from cluster.store import shares
from cluster.store.records import Options
from cluster.store.shares import Given


class Membership:
    """One client in one group. `last` is the newest message it is known to have been given, empty before the
    group has answered; what comes earlier than that waits in `early`. `before`: what it was when the member
    joined again, until a newer one comes; `kept`: what its session's queue had then. `queueing`: messages on
    their way there."""

    __slots__ = (
        "before",
        "early",
        "kept",
        "last",
        "member",
        "name",
        "options",
        "queueing",
        "refused",
        "session",
    )

    def __init__(self, session: Session, name: str, options: Options) -> None:
        self.session = session
        self.name = name
        self.options = options
        self.member = member_of(session)
        self.last = ""
        self.before = ""
        self.kept: set[str] = set()
        self.queueing: set[str] = set()
        self.early: list[Given] = []
        self.refused: list[tuple[str, Delivery]] = []


class Members:
    """All memberships of a node."""

    __slots__ = ("groups", "waiting")

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Membership]] = {}  # by group, by member
        self.waiting: dict[
            str, tuple[int, int]
        ] = {}  # group -> messages that nobody has, and that members have

    def find(self, name: str, member: str) -> Membership | None:
        """None if it is not here, or no more."""
        return self.groups.get(name, {}).get(member)

    def add(self, membership: Membership) -> None:
        """Takes the place of one of an earlier connection."""
        self.groups.setdefault(membership.name, {})[membership.member] = membership

    def remove(self, membership: Membership) -> bool:
        """False if it was not here, or another has its place."""
        members = self.groups.get(membership.name, {})
        if members.get(membership.member) is not membership:
            return False
        del members[membership.member]
        if not members:
            del self.groups[membership.name]
            self.waiting.pop(membership.name, None)
        return True


def member_of(session: Session) -> str:
    """What the client is called in its groups."""
    return shares.member_name(session.client_id, session.epoch if session.queued is None else 0)
