"""What the process of a node and the parent of several nodes have in common: to wait for Redis, and to say
where they are.
"""

from collections.abc import Iterable

import anyio

from broker import __version__, build_mode
from broker.observability.logs import get_logger
from broker.settings import Address, ListenerSettings, RedisSettings, Settings
from cluster.drain import Departure
from cluster.store.endpoint import ServerFiles, read_secret
from cluster.store.errors import StoreUnavailable
from cluster.store.lane import StatusListener
from cluster.store.store import Store, open_store

logger = get_logger(__name__)


def given_url(redis: RedisSettings) -> str | None:
    """Of a Redis that is not the node's own. StartError if the file that has it can't be read."""
    return redis.url if redis.url_file is None else read_secret(redis.url_file)


async def reach_store(
    url: str, settings: Settings, incarnation: str, stopping: Departure, on_status: StatusListener
) -> Store | None:
    """Waits for Redis as long as it takes, unless it can never work. None if told to stop first.

    Raises StoreStartError.
    """
    redis = settings.redis
    while not stopping.is_set():
        try:
            return await open_store(
                url,
                redis.prefix,
                incarnation,
                files=server_files(redis),
                on_status=on_status,
                exchange_timeout_seconds=redis.exchange_timeout_seconds,
            )
        except StoreUnavailable as error:
            logger.warning("waiting for Redis, next try in %g s: %s", redis.connect_retry_seconds, error)
            with anyio.move_on_after(redis.connect_retry_seconds):
                await stopping.wait()
    return None


def server_files(redis: RedisSettings) -> ServerFiles:
    """What is said beside the URL."""
    return ServerFiles(
        url_file=redis.url_file,
        username=redis.username or "",
        password_file=redis.password_file,
        ca_file=redis.ca_file,
        certificate_file=redis.certificate,
        key_file=redis.key,
        server_name=redis.server_name or "",
        sentinel_username=redis.sentinel_username or "",
        sentinel_password_file=redis.sentinel_password_file,
    )


def say_where(
    who: str,
    listeners: Iterable[ListenerSettings],
    admin: Iterable[Address],
    settings: Settings,
    store: Store,
) -> None:
    """The lines that a person who starts it reads; on stdout, as the log goes to stderr."""
    lines = [f"moorline {__version__} ({build_mode()}), {who}"]
    for listener in listeners:
        below = f", mount point {listener.mount_point}" if listener.mount_point is not None else ""
        lines.append(f"  {listener.address.kind.scheme:<6} {listener.address.place}{below}")
    scheme = "http" if settings.admin.certificate is None else "https"
    lines += [f"  admin  {scheme}://{address}" for address in admin]
    kind = "" if settings.redis.is_given else "private "
    lines.append(f"  redis  {kind}{store.server}, prefix {settings.redis.prefix}")
    print("\n".join(lines), flush=True)
