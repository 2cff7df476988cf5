"""Clients that are connected, and who subscribes to what: asked of the nodes, which have them in memory.

Each node answers with a page in order; what lies beyond the end of one that has more is left for the next
page. Whoever has a session is in Redis: one client is asked for at one node."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from cluster.browsing import Browser
from cluster.control import Control, NodeNotThere, NodeState, UnknownNode
from cluster.questions import Answers

CLIENTS: Final = "clients"
CLIENT: Final = "client"
DISCONNECT: Final = "disconnect"
END_SESSION: Final = "end_session"
SUBSCRIPTIONS: Final = "subscriptions"
SUBSCRIPTIONS_OF: Final = "subscriptions_of"
GROUPS: Final = "groups"

PAGE_MAXIMUM: Final = 500
_OWNER_SECONDS: Final = 1.0  # then another node does it

_Limit = Annotated[int, Field(ge=1, le=PAGE_MAXIMUM)]

Item = dict[str, Any]
"""JSON of a node; a newer one may say more."""


@dataclass(frozen=True, slots=True)
class WhichClients:
    """Question CLIENTS: whose id begins so, or who has that user name or address (or one of that network),
    in the order of their ids, beyond `after`."""

    by: Literal["prefix", "user", "address"] = "prefix"
    search: str = ""
    after: str = ""
    limit: _Limit = PAGE_MAXIMUM


@dataclass(frozen=True, slots=True)
class WhichClient:
    """Questions CLIENT, DISCONNECT, END_SESSION and SUBSCRIPTIONS_OF."""

    client_id: str


@dataclass(frozen=True, slots=True)
class WhichSubscriptions:
    """Question SUBSCRIPTIONS: those whose filters begin so, or match the topic if there is one; by filter and
    client, beyond `after`. Those of persistent sessions are known to all nodes: one of them tells them."""

    beginning: str = ""
    topic: str | None = None
    after: str = ""
    limit: _Limit = PAGE_MAXIMUM
    persistent: bool = True


@dataclass(frozen=True, slots=True)
class WhichGroups:
    """Question GROUPS: shared subscriptions, `<group>/<filter>`."""

    beginning: str = ""
    after: str = ""
    limit: _Limit = PAGE_MAXIMUM


@dataclass(frozen=True, slots=True)
class Listed:
    """`after`: where the next page goes on; None: this was the last. `silent`: names of nodes that did not
    answer, and why not."""

    items: list[Item]
    after: str | None
    silent: dict[str, str] = field(default_factory=dict)


class Clients:
    """Asks for `control`. Methods raise StoreError."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._browser: Browser = control.browser

    async def clients(self, which: WhichClients, node: str | None = None) -> Listed:
        """Of all nodes, or of those with that name. Raises UnknownNode."""
        nodes = [each for each in await self._living() if node is None or each.name == node]
        if node is not None and not nodes:
            raise UnknownNode(f"there is no node {node} that is alive")
        answers = await self._ask(CLIENTS, which, nodes)
        return _merged(answers, "clients", lambda item: str(item["client_id"]), which.limit)

    async def client(self, client_id: str) -> Item | None:
        """A client that is connected; None if it is not. Raises NodeNotThere if its node does not answer."""
        owner = await self._owner(client_id)
        if owner is None:
            return None
        said = _only(await self._control.questions.ask(CLIENT, WhichClient(client_id), [owner]), owner)
        return None if said is None else {**said, "node": _name_of(owner)}

    async def disconnect(self, client_id: str) -> str | None:
        """Ends the connection of a client; the name of its node, None if it was not connected. Raises
        NodeNotThere if its node does not answer."""
        owner = await self._owner(client_id)
        if owner is None:
            return None
        said = _only(await self._control.questions.ask(DISCONNECT, WhichClient(client_id), [owner]), owner)
        return _name_of(owner) if said else None

    async def end_session(self, client_id: str) -> bool:
        """Disconnects the client and ends its session, whoever has it; whether there was one. Raises
        NodeNotThere if no node answers."""
        brief = await self._browser.brief(client_id)
        if brief is None:
            return False
        living = [node.incarnation for node in await self._living()]
        # Its own node can tell the client why; if that is dead or stuck, any other one can do it.
        living.sort(key=lambda incarnation: (incarnation != brief.owner, incarnation != self._incarnation))
        for incarnation in living[:2]:
            answers = await self._control.questions.ask(
                END_SESSION, WhichClient(client_id), [incarnation], _OWNER_SECONDS
            )
            if answers.said:
                return bool(answers.said[incarnation])
        raise NodeNotThere(f"no node has ended the session: {_why(answers) if living else 'there is none'}")

    async def subscriptions(self, which: WhichSubscriptions) -> Listed:
        """Whose filters begin so, or match a topic."""
        nodes = await self._living()
        all_of_them = self._one_of(nodes)
        direct = replace(which, persistent=False)
        arguments = {node.incarnation: which if node in all_of_them else direct for node in nodes}
        answers = await self._control.questions.ask_each(SUBSCRIPTIONS, arguments)
        listed = _merged(answers, "subscriptions", lambda item: str(item["place"]), which.limit)
        for item in listed.items:
            del item["place"]
        return listed

    async def subscriptions_of(self, client_id: str) -> list[Item] | None:
        """All of one session, by filter; None if there is no such session. Raises NodeNotThere if only a node
        knows them, and does not answer."""
        brief = await self._browser.brief(client_id)
        if brief is None:
            return None
        if not brief.is_direct:
            return await self._browser.subscriptions(client_id)
        if brief.owner is None:
            return []
        question = WhichClient(client_id)
        answers = await self._control.questions.ask(SUBSCRIPTIONS_OF, question, [brief.owner])
        said = answers.said.get(brief.owner)
        if not isinstance(said, list):
            raise NodeNotThere(f"node {brief.owner} does not answer: {_why(answers)}")
        return said

    async def groups(self, which: WhichGroups) -> Listed:
        """Shared subscriptions, and how they stand. `items`: group, filter, waiting, given, members."""
        answers = await self._ask(GROUPS, which, self._one_of(await self._living()))
        listed = _merged(answers, "groups", lambda item: str(item["name"]), which.limit)
        briefs = await self._browser.shares([str(item["name"]) for item in listed.items])
        items: list[Item] = []
        for item, brief in zip(listed.items, briefs, strict=True):
            group, _, filter = str(item["name"]).partition("/")
            items.append({"group": group, "filter": filter, **asdict(brief)})
        return Listed(items, listed.after, listed.silent)

    @property
    def _incarnation(self) -> str:
        return self._control.incarnation

    async def _owner(self, client_id: str) -> str | None:
        brief = await self._browser.brief(client_id)
        return brief.owner if brief is not None else None

    async def _living(self) -> list[NodeState]:
        return [node for node in await self._control.nodes() if node.is_alive]

    def _one_of(self, nodes: Sequence[NodeState]) -> list[NodeState]:
        """Who is asked for what all know: this node, if it is one."""
        own = [node for node in nodes if node.incarnation == self._incarnation]
        return own or list(nodes[:1])

    async def _ask(self, name: str, question: object, nodes: Sequence[NodeState]) -> Answers:
        return await self._control.questions.ask(name, question, [node.incarnation for node in nodes])


def _merged(answers: Answers, noun: str, place: Callable[[Item], str], limit: int) -> Listed:
    """The first `limit` of what the nodes have said: nothing beyond the last item of one that has more."""
    items: list[tuple[str, Item]] = []
    bounds = []
    for incarnation, said in answers.said.items():
        if not isinstance(said, dict):
            continue
        own = [(place(item), {**item, "node": _name_of(incarnation)}) for item in said[noun]]
        items += own
        if said["more"] and own:
            bounds.append(own[-1][0])
    items.sort(key=lambda pair: pair[0])
    if bounds:
        bound = min(bounds)
        items = [pair for pair in items if pair[0] <= bound]
    more = bool(bounds) or len(items) > limit
    items = items[:limit]
    silent = {_name_of(incarnation): why for incarnation, why in answers.silent.items()}
    return Listed([item for _, item in items], items[-1][0] if more and items else None, silent)


def _only(answers: Answers, incarnation: str) -> Any:
    if incarnation in answers.silent:
        raise NodeNotThere(f"node {incarnation} has the client, and does not answer: {_why(answers)}")
    return answers.said.get(incarnation)


def _why(answers: Answers) -> str:
    return "; ".join(answers.silent.values()) or "it says something else"


def _name_of(incarnation: str) -> str:
    return incarnation.rpartition(".")[0] or incarnation
