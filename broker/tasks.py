"""Short tasks that connections begin."""

from collections.abc import Coroutine

from anyio.abc import TaskGroup

from broker.observability.logs import get_logger
from cluster.store.errors import StoreError

logger = get_logger(__name__)


class Tasks:
    """Short tasks of connections; each ends with the node. An error in one is logged and harms nobody."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None

    def open(self, group: TaskGroup) -> None:
        """Runs them in `group`."""
        self._group = group

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Starts one; nothing is started while the node stops."""
        if self._group is None:
            work.close()
            return
        self._group.start_soon(_run_logged, work)


async def _run_logged(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except StoreError as error:
        logger.error("a task of a connection failed: %s", error)
    except Exception:  # the top of this task
        logger.exception("a task of a connection failed")
