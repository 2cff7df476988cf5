"""Rules of the file and of Redis, which hold together."""

from broker.auth import Authorization
from broker.auth.rules import Rules
from broker.client import Hub, review_all, revoke


class RuleSources:
    """Those of the file come first."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization
        self._of_file = authorization.rules
        self._of_redis: Rules | None = None

    @property
    def has_redis_rules(self) -> bool:
        """Whether any have been read."""
        return self._of_redis is not None

    def replace_file(self, hub: Hub, rules: Rules) -> None:
        """The file has been read again."""
        self._of_file = rules
        self._apply(hub)

    def replace_redis(self, hub: Hub, rules: Rules) -> None:
        """Those in Redis have been read."""
        self._of_redis = rules
        self._apply(hub)

    def _apply(self, hub: Hub) -> None:
        """From now on these; connected clients are held to them."""
        first, others = self._of_file, self._of_redis
        if first is not None and others is not None:
            joined = Rules(first.rules, first.groups, others)
        else:
            joined = first or others or Rules((), {})
        self._authorization.replace_rules(joined)
        hub.spawn(review_all(hub, revoke))
