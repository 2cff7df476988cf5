"""Gathers the facts of a client: from Redis, and from the node that has its connection. What can't be had in
time is left out and told."""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

import anyio
from pydantic import TypeAdapter, ValidationError

from broker.admin.explain.facts import Facts, Owner
from broker.client import EXPLAIN, NodeFacts
from cluster.control import Control
from cluster.explainer import FoundLetters
from cluster.questions import Answers
from cluster.store.errors import StoreError
from cluster.store.explained import Explained
from cluster.store.membership import DEAD_TICKS, Member

REDIS_SECONDS: Final = 1.2
NODES_SECONDS: Final = 1.0
"""Both together have to be less than a request may take."""

_NODES: Final = 64
_NODE_FACTS: Final = TypeAdapter(NodeFacts)
_NO_LETTERS: Final = FoundLetters([], 0, is_all=False)


async def gather(control: Control, client_id: str) -> tuple[Facts, FoundLetters]:
    """All that can be known within some seconds; does not raise for what can't."""
    try:
        with anyio.fail_after(REDIS_SECONDS):
            explained, members = await control.explainer.client(client_id)
    except (StoreError, TimeoutError) as error:
        trouble = str(error) or f"no answer within {REDIS_SECONDS:g} s"
        return await _gather_without_redis(control, client_id, trouble), _NO_LETTERS
    facts = Facts(
        client_id,
        explained.time_ms,
        session=explained.session,
        owner=_owner(explained, members),
        events=explained.events,
    )
    letters = _NO_LETTERS

    async def read_letters() -> None:
        nonlocal letters
        with anyio.move_on_after(NODES_SECONDS), suppress(StoreError):
            letters = await control.explainer.letters(client_id)

    async with anyio.create_task_group() as reading:
        reading.start_soon(read_letters)
        facts = await _ask_nodes(control, facts, members)
    return replace(facts, letters=letters.letters), letters


async def _gather_without_redis(control: Control, client_id: str, trouble: str) -> Facts:
    """Only this node can be asked, if this process is one."""
    node: NodeFacts | None = None
    with anyio.move_on_after(NODES_SECONDS), suppress(StoreError):  # it is no node, then
        asked = {"client_id": client_id}
        node = _best(await control.questions.ask(EXPLAIN, asked, [control.incarnation], NODES_SECONDS))
    now_ms = node.now_ms if node is not None else int(time.time() * 1000)
    return Facts(client_id, now_ms, redis_trouble=trouble, node=node)


def _owner(explained: Explained, members: list[Member]) -> Owner | None:
    session = explained.session
    if session is None or session.owner is None:
        return None
    incarnation = session.owner
    name = incarnation.rpartition(".")[0] or incarnation
    for member in members:
        if member.incarnation == incarnation:
            return Owner(name, incarnation, is_member=True, unseen_seconds=member.unseen_ticks)
    return Owner(name, incarnation, is_member=False, unseen_seconds=DEAD_TICKS)


async def _ask_nodes(control: Control, facts: Facts, members: list[Member]) -> Facts:
    """The owner; without one all others, as a client that is refused or waits may be anywhere."""
    owner = facts.owner
    alive = [member.incarnation for member in members if member.is_alive][:_NODES]
    asked = alive if owner is None or owner.is_dead else [owner.incarnation]
    argument = {"client_id": facts.client_id, **_known_names(facts)}
    try:
        answers = await control.questions.ask(EXPLAIN, argument, asked, NODES_SECONDS)
    except StoreError as error:
        answers = Answers(silent=dict.fromkeys(asked, str(error)))
    facts = replace(facts, node=_best(answers))
    if owner is None or owner.incarnation not in answers.silent:
        return facts
    return replace(facts, owner=replace(owner, silence=answers.silent[owner.incarnation]))


def _known_names(facts: Facts) -> dict[str, str]:
    """Its user and address, as far as its events tell: there may be a ban of these."""
    for event in facts.events:
        if event.kind in ("connected", "refused"):
            names = {name: event.fields.get(name) for name in ("username", "address")}
            return {name: value for name, value in names.items() if isinstance(value, str)}
    return {}


def _best(answers: Answers) -> NodeFacts | None:
    """What the node with the connection says; else who knows of a reason why there is none."""
    said = []
    for each in answers.said.values():
        try:
            said.append(_NODE_FACTS.validate_python(each))
        except ValidationError:  # of a release that says it in another way
            continue
    if not said:
        return None
    best = max(said, key=lambda node: (node.connection is not None, node.ban is not None, node.takeovers))
    return replace(best, takeovers=max(node.takeovers for node in said))
