"""May this client do that? The rules of the node, those of the client, and plug-ins; and what was decided.

They are asked in this order, and the first decision counts: the rules file, the rules that came with the
identity, the plug-ins. If nobody decides `allows_unmatched` does, but for `$SYS`, which needs somebody who
allows it. Rules answer at once; a plug-in has to be waited for, which is what None as an answer means.

Each connection remembers what was decided (`Rights`). `Rights.allowed` are topics that it may publish to as
the rules say: the hot path looks in there, and asks only for others. Everything is bounded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import anyio

from broker.auth.access import Access, Action, Authorizer, Decision, Identity, Unavailable
from broker.auth.gate import Busy
from broker.auth.rules import Rules
from broker.mqtt import SYS_PREFIX
from broker.observability.logs import get_logger
from broker.observability.seldom import Seldom

_SYS: Final = SYS_PREFIX.removesuffix("/")
"""No wildcard matches it as the first level [MQTT-4.7.2-1]: so only what begins with it leads there."""

_Key = tuple[Action, str, int, bool]
"""What may differ between two questions about one connection."""

logger = get_logger(__name__)


@dataclass(slots=True)
class Authorization:
    """What holds for all connections of a node. `rules` may be replaced; then what connections remember is
    to be forgotten."""

    rules: Rules | None
    plugins: Sequence[tuple[str, Authorizer]]
    allows_unmatched: bool
    timeout_seconds: float
    skips_failures: bool
    decision_seconds: float
    decisions_maximum: int
    revision: int = 0
    _late: Seldom = field(default_factory=lambda: Seldom(logger), init=False, repr=False)

    def replace_rules(self, rules: Rules) -> None:
        """From now on these. What was decided before, and is not done yet, shows by its `revision`."""
        self.rules = rules
        self.revision += 1

    @property
    def is_asked(self) -> bool:
        """Whether there is anybody to ask, whoever the client is."""
        return self.rules is not None or bool(self.plugins)

    def decide_now(self, access: Access) -> bool | None:
        """None: the plug-ins have to be asked."""
        for decider in (self.rules, access.identity.rules):
            if decider is not None:
                decision = decider.decide(access)
                if decision is not Decision.NO_OPINION:
                    return decision is Decision.ALLOW
        return None if self.plugins else self._unmatched(access)

    async def decide(self, access: Access) -> tuple[bool, bool]:
        """Asks the plug-ins. The second is whether the decision may be remembered: not if one has failed."""
        is_sure = True
        for name, plugin in self.plugins:
            decision = await self._ask(name, plugin, access)
            if decision is None:
                is_sure = False
                decision = Decision.NO_OPINION if self.skips_failures else Decision.DENY
            if decision is not Decision.NO_OPINION:
                return decision is Decision.ALLOW, is_sure
        return self._unmatched(access), is_sure

    def _unmatched(self, access: Access) -> bool:
        if access.identity.rules is None and not self.is_asked:
            is_allowed = True
        else:
            is_allowed = self.allows_unmatched
        return is_allowed and access.topic.partition("/")[0] != _SYS

    async def _ask(self, name: str, plugin: Authorizer, access: Access) -> Decision | None:
        """None: it has failed."""
        try:
            with anyio.fail_after(self.timeout_seconds):
                return await plugin.authorize(access)
        except (Busy, Unavailable):
            pass
        except TimeoutError:
            self._late.error("authorizer did not answer in time", {"authorizer": name})
        except Exception:  # not our code
            logger.exception("authorizer failed", extra={"authorizer": name})
        return None


class Rights:
    """What one connection may do."""

    __slots__ = ("_access", "_authorization", "_clock", "_decided", "_denied", "allowed")

    def __init__(
        self,
        authorization: Authorization,
        identity: Identity,
        client_id: str,
        address: str,
        clock: Callable[[], float] = time.monotonic,
        listener: str = "",
        common_name: str | None = None,
    ) -> None:
        self._authorization = authorization
        self._access = Access(
            identity,
            client_id,
            address,
            Action.PUBLISH,
            "",
            listener=listener,
            common_name=common_name,
        )
        self._clock = clock
        self._denied: set[str] = set()
        self._decided: dict[_Key, tuple[bool, float]] = {}
        self.allowed: set[str] = set()

    @property
    def identity(self) -> Identity:
        """Who the client is."""
        return self._access.identity

    @property
    def governs_publishing(self) -> bool:
        """Whether the client may not just publish what it likes."""
        return self._authorization.is_asked or self.identity.rules is not None

    @property
    def revision(self) -> int:
        """Of the rules."""
        return self._authorization.revision

    def access(self, action: Action, topic: str, qos: int, retain: bool) -> Access:
        """That this client wants to do this."""
        return replace(self._access, action=action, topic=topic, qos=qos, retain=retain)

    def decide_now(self, access: Access) -> bool | None:
        """None: it has to be asked for (`decide`)."""
        is_publish = access.action is Action.PUBLISH
        if is_publish and access.topic in self.allowed:
            return True
        if is_publish and access.topic in self._denied:
            return False
        remembered = self._decided.get(_key(access)) if self._decided else None
        if remembered is not None and self._clock() < remembered[1]:
            return remembered[0]
        decision = self._authorization.decide_now(access)
        if is_publish and decision is not None:
            topics = self.allowed if decision else self._denied
            if len(topics) >= self._authorization.decisions_maximum:
                topics.clear()
            topics.add(access.topic)
        return decision

    async def decide(self, access: Access) -> bool:
        """Asks those who take their time."""
        is_allowed, _ = await self.judge(access)
        return is_allowed

    async def judge(self, access: Access) -> tuple[bool, bool]:
        """The same; the second is whether that is sure: not if somebody who was asked has failed. Asks again
        if the rules have changed meanwhile."""
        revision = -1
        while revision != self.revision:
            revision = self.revision
            decided = self._authorization.decide_now(access)
            if decided is not None:
                return decided, True
            decision, is_sure = await self._authorization.decide(access)
        seconds = self._authorization.decision_seconds
        if seconds and is_sure:
            if len(self._decided) >= self._authorization.decisions_maximum:
                self._decided.clear()
            self._decided[_key(access)] = (decision, self._clock() + seconds)
        return decision, is_sure

    def replace_identity(self, identity: Identity) -> None:
        """The client is who it was, but in other groups, or with other rules."""
        self._access = replace(self._access, identity=identity)
        self.forget()

    def forget(self) -> None:
        """The rules are others now."""
        self.allowed.clear()
        self._denied.clear()
        self._decided.clear()


def _key(access: Access) -> _Key:
    return access.action, access.topic, access.qos, access.retain
