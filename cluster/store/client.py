"""The side connections: redis-py, for what is no batch of the lane; what its exceptions mean to us."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from redis import CredentialProvider, exceptions
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cluster.store.connection import error_of_reply
from cluster.store.endpoint import Endpoint, Tls
from cluster.store.errors import AccessDenied, RedisFull, StoreError, StoreUnavailable

_MAXIMUM_CONNECTIONS: Final = 4

# redis-py has taken the code off the text of these; the first that fits counts.
_ERRORS_BY_CLASS: Final[tuple[tuple[type[Exception], type[StoreError]], ...]] = (
    (exceptions.OutOfMemoryError, RedisFull),
    (exceptions.AuthenticationError, AccessDenied),
    (exceptions.NoPermissionError, AccessDenied),
    (exceptions.ConnectionError, StoreUnavailable),  # BusyLoadingError is one
    (exceptions.TimeoutError, StoreUnavailable),
    (exceptions.ReadOnlyError, StoreUnavailable),
    (exceptions.TryAgainError, StoreUnavailable),
    (exceptions.ClusterDownError, StoreUnavailable),  # MasterDownError is one
)


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Turns redis-py's exceptions into our StoreErrors."""
    try:
        yield
    except exceptions.RedisError as error:
        for kind, ours in _ERRORS_BY_CLASS:
            if isinstance(error, kind):
                raise ours(f"{address}: {error}") from error
        raise error_of_reply(str(error)) from error


class _Credentials(CredentialProvider):
    """Those of the moment, for each connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        username, password = self._endpoint.credentials()
        return (username, password) if username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The one of the base class warns."""
        return self.get_credentials()


class _TlsConnection(SSLConnection):
    """With the files and the server's name of the moment, which redis-py's own can't have."""

    def __init__(self, *, tls: Tls, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "ssl": self._tls.context(),
            "server_hostname": self._tls.server_name or None,
        }


def new_client(
    endpoint: Endpoint, client_name: str, connect_timeout_seconds: float, exchange_timeout_seconds: float
) -> Redis:
    """A client with a small pool, not connected yet. When a connection fails, it tries a second one."""
    # Any: each class of connections has its own arguments, which redis-py's types can't tell apart here.
    where: dict[str, Any] = {"host": endpoint.host, "port": endpoint.port}
    if endpoint.path:
        where = {"connection_class": UnixDomainSocketConnection, "path": endpoint.path}
    elif endpoint.tls is not None:
        where |= {"connection_class": _TlsConnection, "tls": endpoint.tls}
    if not endpoint.path:
        where["socket_keepalive"] = True
    pool: BlockingConnectionPool = BlockingConnectionPool(
        max_connections=_MAXIMUM_CONNECTIONS,
        timeout=exchange_timeout_seconds,
        credential_provider=_Credentials(endpoint) if endpoint.credentials()[1] else None,
        db=endpoint.database,
        client_name=client_name,
        driver_info=None,  # a courtesy that takes a right more
        protocol=2,
        socket_connect_timeout=connect_timeout_seconds,
        socket_timeout=exchange_timeout_seconds,
        retry=Retry(NoBackoff(), 1),
        **where,
    )
    return Redis.from_pool(pool)
