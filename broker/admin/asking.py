"""What the API asks of nodes: of the one that answers, or of those in whose place it answers (the parent of
workers has none of its own)."""

from starlette.exceptions import HTTPException

from cluster.control import Control, Desk, NodeState
from cluster.questions import Answers


def control_of(desk: Desk) -> Control:
    """Raises HTTPException while there is none."""
    if desk.control is None:
        raise HTTPException(503, "Redis has not been reached yet")
    return desk.control


async def ask_one(desk: Desk, name: str, argument: object) -> tuple[str, object]:
    """What one node says, and which: this one, else one that runs here, else any. Raises HTTPException if it
    says nothing, StoreError."""
    control = control_of(desk)
    nodes = [node for node in await control.nodes() if _is_of_use(node) or _is_own(control, node)]
    if not nodes:
        raise HTTPException(503, "no node is there that could do it")
    chosen = min(
        nodes,
        key=lambda node: (not _is_own(control, node), node.name not in desk.nodes, not node.takes_clients),
    )
    answers = await control.questions.ask(name, argument, [chosen.incarnation])
    reason = answers.silent.get(chosen.incarnation)
    if reason is not None:
        raise HTTPException(503, f"node {chosen.incarnation}: {reason}")
    return chosen.incarnation, answers.said[chosen.incarnation]


async def ask_here(desk: Desk, name: str, argument: object) -> Answers:
    """What all nodes of this process say: this one, or the workers. Raises HTTPException, StoreError."""
    control = control_of(desk)
    nodes = [node for node in await control.nodes() if node.is_alive and node.name in desk.nodes]
    own = [node for node in nodes if _is_own(control, node)] or nodes
    return await control.questions.ask(name, argument, [node.incarnation for node in own])


def _is_of_use(node: NodeState) -> bool:
    """One that has just started has said nothing of itself."""
    return node.is_alive and (node.info is None or not node.info.draining)


def _is_own(control: Control, node: NodeState) -> bool:
    return node.incarnation == control.incarnation
