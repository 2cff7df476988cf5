"""How a primary is known again: whether what it had answered once is still all there."""

from typing import Final

_NONE: Final = "0"


class Identity:
    """Of a server, from INFO. Its replication id is another one after a fail-over or a restart. Without
    either it changes, too: when a first replica comes, or none has been there for an hour. Then the process
    is the same, and there is no second id, which would name the primary that it has followed."""

    __slots__ = ("_ids", "_run_id", "_second_id")

    def __init__(self, run_id: str, replication_id: str, second_id: str) -> None:
        self._run_id = run_id
        self._ids = {replication_id}
        self._second_id = second_id

    def __repr__(self) -> str:
        return f"Identity({self._run_id}, {sorted(self._ids)})"

    def is_still(self, replication_id: str, second_id: str, *, run_id: str = "") -> bool:
        """Whether a server that says so of itself has lost nothing since; `run_id` of the process to which a
        connection leads, if it is known."""
        if replication_id in self._ids:
            return True
        if run_id and run_id == self._run_id and not second_id.strip(_NONE):
            self._ids.add(replication_id)
            return True
        return False

    def is_same(self, other: "Identity") -> bool:
        """Whether that server has lost nothing since."""
        return all(self.is_still(each, other._second_id, run_id=other._run_id) for each in other._ids)

    @property
    def run_id(self) -> str:
        """Of its process."""
        return self._run_id
