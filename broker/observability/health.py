"""What `/healthz` and `/readyz` answer. The node tells it what changes; it knows no sockets and no Redis."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one probe: whether all is well, and in words what isn't."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Health:
    """The state of the node as probes see it. Draining never ends: a node that stops doesn't start again."""

    __slots__ = ("_draining", "_memory_trouble", "_redis_trouble", "_started")

    def __init__(self) -> None:
        self._started = False
        self._draining = False
        self._redis_trouble = "not reached yet"
        self._memory_trouble = ""

    def started(self) -> None:
        """Listeners are open."""
        self._started = True

    def starting(self) -> None:
        """They are closed: the node starts again."""
        self._started = False

    def drain(self) -> None:
        """The node takes no more connections and is about to end."""
        self._draining = True

    def redis_back(self) -> None:
        """Redis answers."""
        self._redis_trouble = ""

    def redis_away(self, reason: str) -> None:
        """Redis doesn't answer; `reason` is shown to whoever asks."""
        self._redis_trouble = reason or "away"

    def memory(self, trouble: str) -> None:
        """Memory is short, so that nobody is let in; empty: it is enough."""
        self._memory_trouble = trouble

    def live(self) -> Answer:
        """For `/healthz`: that the event loop got as far as asking is the whole proof.

        A restart would bring neither Redis back nor a drain to its end sooner, so neither counts here.
        """
        return Answer(True)

    def ready(self) -> Answer:
        """For `/readyz`: whether a load balancer should send new connections here."""
        reasons = []
        if not self._started:
            reasons.append("starting")
        if self._draining:
            reasons.append("draining")
        if self._redis_trouble:
            reasons.append(f"redis: {self._redis_trouble}")
        if self._memory_trouble:
            reasons.append(self._memory_trouble)
        return Answer(not reasons, tuple(reasons))

    def __repr__(self) -> str:
        ready = self.ready()
        return f"<Health {'ready' if ready.ok else ', '.join(ready.reasons)}>"
