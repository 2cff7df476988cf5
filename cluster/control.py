"""Looking at the whole cluster, and steering it: answers come from Redis, commands go through the inboxes of
nodes. Any node can do it, and so can a process that is no node.

ControlError
├── UnknownNode      there is no such node
├── AmbiguousNode    several nodes have that name; an incarnation tells them apart
├── NodeNotThere     it is dead, or it left a moment ago
└── InboxFull        it does not read what it is sent
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.errors import MoorlineError
from cluster import commands, node_info
from cluster.alarms import AlarmBook
from cluster.bans import BanBook
from cluster.browsing import Browser
from cluster.commands import Drain, Order, Shed
from cluster.drain import Departure
from cluster.explainer import Explainer
from cluster.exporting import Exporter
from cluster.importing import Importer
from cluster.moving_users import UserMover
from cluster.node_info import NodeInfo
from cluster.questions import Answerer, Questions
from cluster.redis_report import Reporter
from cluster.retained import RetainedBook
from cluster.store import inbox_records, inboxes, membership, retained, sessions, users
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.inbox_records import Command
from cluster.store.keys import BUCKETS
from cluster.store.reply import as_bytes, as_int
from cluster.store.server_state import ServerState, server_state
from cluster.store.store import Store
from cluster.tap_book import TapBook
from cluster.users import UserBook

TOLERANCE = 0.1
_TURNS_IN_A_CALL = 50
_SECRET_BYTES = 32


class ControlError(MoorlineError):
    """What was asked can't be done; the text says why."""


class UnknownNode(ControlError):
    """Neither a name nor an incarnation of a member."""


class AmbiguousNode(ControlError):
    """More than one member has that name."""


class NodeNotThere(ControlError):
    """A member that can't be told anything."""


class InboxFull(ControlError):
    """A member that does not read its inbox."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A member of the cluster. `info` is None until it has said something of itself, a second after its
    start. One that is not alive waits to be reaped by the others."""

    incarnation: str
    is_alive: bool
    info: NodeInfo | None

    @property
    def name(self) -> str:
        """The incarnation without what makes it one."""
        return self.incarnation.rpartition(".")[0] or self.incarnation

    @property
    def takes_clients(self) -> bool:
        """Whether clients may be sent there."""
        return self.is_alive and self.info is not None and not self.info.draining


@dataclass(slots=True)
class Share:
    """A node's part in a rebalance: how many clients it has and should shed. `problem`: why it could not be
    told."""

    node: NodeState
    clients: int
    shed: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A rebalance, of all nodes that take clients; `mean` is clients per node."""

    mean: float
    shares: list[Share]


def surplus(clients: Mapping[str, int], tolerance: float) -> dict[str, int]:
    """How many clients each overloaded node should shed.

    Overloaded is who has more than the mean and `tolerance` (0.1: a tenth) above it. It goes down to the
    mean, not only to the tolerance, as some of those it sheds come back to it; and never below.
    """
    if not clients:
        return {}
    mean = sum(clients.values()) / len(clients)
    keep = math.ceil(mean)
    return {
        node: count - keep
        for node, count in clients.items()
        if count > mean * (1 + tolerance) and count > keep
    }


class Control:
    """Acts for `incarnation`. If that is a node, its own commands go to `on_command` and not through Redis,
    and questions to `answerers`."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        on_command: Callable[[Command], None] | None = None,
        answerers: Mapping[str, Answerer] | None = None,
    ) -> None:
        self._store = store
        self._on_command = on_command
        self.incarnation = incarnation
        self.users = UserBook(store)
        self.bans = BanBook(store)
        self.browser = Browser(store)
        self.explainer = Explainer(store)
        self.questions = Questions(store, incarnation, {} if answerers is None else answerers)
        self.retained = RetainedBook(store)
        self.taps = TapBook(store, self.questions)
        self.alarms = AlarmBook(store, incarnation)
        self.exporter = Exporter(store)
        self.importer = Importer(store, self.browser, self.retained)
        self.user_mover = UserMover(store, self.users)
        self.reporter = Reporter(store)

    async def nodes(self) -> list[NodeState]:
        """All members, by name. Raises StoreError."""
        (reply,) = await self._ask(membership.members())
        members = membership.parse_members(reply)
        nodes = [
            NodeState(member.incarnation, member.is_alive, node_info.unpack(member.info))
            for member in members
        ]
        return sorted(nodes, key=lambda node: (node.name, node.incarnation))

    async def incarnation_of(self, node: str) -> str:
        """By its name, or incarnation. Raises UnknownNode, AmbiguousNode, StoreError."""
        return _find(await self.nodes(), node).incarnation

    async def retained_count(self) -> int:
        """How many topics have a retained message. Raises StoreError."""
        replies = await self._ask(*(retained.retained_count(bucket) for bucket in range(BUCKETS)))
        return sum(as_int(reply) for reply in replies)

    async def session_count(self) -> int:
        """How many persistent sessions there are. Raises StoreError."""
        replies = await self._ask(*(sessions.session_count(bucket) for bucket in range(BUCKETS)))
        return sum(as_int(reply) for reply in replies)

    async def secret(self) -> bytes:
        """Of this broker: random, the same for every process of it, and told to nobody. Raises StoreError."""
        (answer,) = await self._ask(users.users_secret(secrets.token_bytes(_SECRET_BYTES)))
        return as_bytes(answer)

    async def server(self) -> ServerState:
        """How Redis is doing. Raises StoreError."""
        return await server_state(self._store)

    async def drain(self, node: str, *, moved: bool = False) -> str:
        """Asks the node of that name, or of that incarnation, to send its clients away and end; its
        incarnation. Raises ControlError, StoreError."""
        if node == self.incarnation and self._on_command is not None:  # needs no Redis
            self._on_command(commands.pack(Drain(moved)))
            return node
        found = _find(await self.nodes(), node)
        await self._give(found, Drain(moved))
        return found.incarnation

    async def plan(self, tolerance: float = TOLERANCE) -> Plan:
        """What a rebalance would do now. Raises StoreError."""
        nodes = {node.incarnation: node for node in await self.nodes() if node.takes_clients}
        clients = {node.incarnation: node.info.sessions for node in nodes.values() if node.info is not None}
        shed = surplus(clients, tolerance)
        mean = sum(clients.values()) / len(clients) if clients else 0.0
        return Plan(mean, [Share(nodes[each], clients[each], shed.get(each, 0)) for each in nodes])

    async def rebalance(
        self, tolerance: float = TOLERANCE, *, clients_per_second: float | None = None
    ) -> Plan:
        """Makes overloaded nodes shed their surplus, each at that pace (None: at its own). A node that
        can't be told has its `problem` in the plan. Raises StoreError."""
        plan = await self.plan(tolerance)
        for share in plan.shares:
            if not share.shed:
                continue
            try:
                await self._give(share.node, Shed(share.clients - share.shed, clients_per_second))
            except ControlError as error:
                share.problem = str(error)
        return plan

    async def shed(self, incarnation: str, keep: int, *, clients_per_second: float) -> None:
        """Makes a node send clients away until `keep` are left. Raises ControlError, StoreError."""
        await self._give(_find(await self.nodes(), incarnation), Shed(keep, clients_per_second))

    async def take_turn(self, chore: str, holder: str, seconds: int) -> bool:
        """Takes or renews a turn for so long, 0 gives it back; whether it is the holder's. Raises
        StoreError."""
        (is_ours,) = await self.take_turns([chore], holder, seconds)
        return is_ours

    async def take_turns(self, chores: Sequence[str], holder: str, seconds: int) -> list[bool]:
        """The same for several, in their order."""
        answers: list[Reply] = []
        for place in range(0, len(chores), _TURNS_IN_A_CALL):
            some = chores[place : place + _TURNS_IN_A_CALL]
            answers += await self._ask(*[membership.turn(chore, holder, seconds * 1000) for chore in some])
        return [as_int(answer) == 1 for answer in answers]

    async def _give(self, node: NodeState, order: Order) -> None:
        command = commands.pack(order)
        if node.incarnation == self.incarnation and self._on_command is not None:
            self._on_command(command)
            return
        if not node.is_alive:
            raise NodeNotThere(f"node {node.incarnation} is dead; the others give its sessions back")
        record = inbox_records.pack_command(command.name, command.argument)
        (answer,) = await self._ask(inboxes.send(node.incarnation, record))
        if answer == 0:
            raise NodeNotThere(f"node {node.incarnation} takes no commands: it is about to leave")
        if answer == -1:
            raise InboxFull(f"node {node.incarnation} does not read its inbox, which is full")

    async def _ask(self, *requests: Request) -> list[Reply]:
        """Beside the lane, also when Redis is full: an operator may want to help just then."""
        replies = await self._store.call(requests, function="free")
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies


class Desk:
    """Where the admin address finds what it steers: its process, and the Control of this moment. There is
    none before Redis has been reached, and another one whenever a node starts again as a new incarnation."""

    __slots__ = ("_departure", "control", "nodes")

    def __init__(self, departure: Departure, nodes: Sequence[str]) -> None:
        self._departure = departure
        self.nodes = nodes
        """Names of those that run in this process, or as its children."""
        self.control: Control | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether this process is to stop."""
        return self._departure.is_set()

    async def wait_until_stopping(self) -> None:
        """Until it is."""
        await self._departure.wait()

    def drain(self, *, moved: bool) -> None:
        """Sends the clients of all of them away, and ends the process. Needs no Redis."""
        self._departure.begin("asked to drain", moved=moved)


def _find(nodes: list[NodeState], wanted: str) -> NodeState:
    """By incarnation, else by name. Raises UnknownNode, AmbiguousNode."""
    for node in nodes:
        if node.incarnation == wanted:
            return node
    named = [node for node in nodes if node.name == wanted]
    living = [node for node in named if node.is_alive] or named
    if not living:
        names = ", ".join(dict.fromkeys(node.name for node in nodes)) or "none"
        raise UnknownNode(f"there is no node {wanted}; there are: {names}")
    if len(living) > 1:
        incarnations = ", ".join(node.incarnation for node in living)
        raise AmbiguousNode(f"several nodes have the name {wanted}, say which: {incarnations}")
    return living[0]
