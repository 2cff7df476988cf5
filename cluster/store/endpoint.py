"""The Redis URL: what it says, and how it is shown without its password; and the files beside it.

Files with credentials and certificates are read again for each connection: they may be changed while we run.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cluster.store.errors import InvalidRedisUrl

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "unix")
_SENTINELS_MAXIMUM: Final = 20
_CLUSTER: Final = "+cluster"
_SEEDS_MAXIMUM: Final = 100
_VERIFICATION: Final = {"required": True, "none": False}
_SECRET_CHARACTERS: Final = 4096
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a `rediss://` server is verified. No file names: system's authorities, no client certificate."""

    verify: bool = True
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    """In the certificate, if it is not the host of the URL."""

    def context(self) -> ssl.SSLContext:
        """Raises InvalidRedisUrl if a file can't be read."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(f for f in (self.ca_file, self.certificate_file, self.key_file) if f)
            raise InvalidRedisUrl(f"certificates for Redis can't be loaded ({files}): {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What there is beside the URL, and wins over it."""

    url_file: Path | None = None
    """Where the URL is from: its user name and password are looked for there again."""
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    sentinel_username: str = ""
    sentinel_password_file: Path | None = None

    def of_sentinels(self) -> "ServerFiles":
        """The same for a sentinel, which has users and passwords of its own."""
        return replace(self, username=self.sentinel_username, password_file=self.sentinel_password_file)

    def complete(self, tls: Tls | None) -> Tls | None:
        """With what is said here. Raises InvalidRedisUrl if there is no TLS for it."""
        if tls is None:
            if self.ca_file or self.certificate_file or self.server_name:
                raise InvalidRedisUrl("certificates for Redis are given, but its URL is not rediss")
            return None
        return Tls(
            tls.verify,
            str(self.ca_file or tls.ca_file),
            str(self.certificate_file or tls.certificate_file),
            str(self.key_file or tls.key_file),
            self.server_name or tls.server_name,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. `path` is set for a unix socket, else `host` and `port`. Its text has no password in it."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: Tls | None = None
    files: ServerFiles = ServerFiles()
    sentinels: tuple["Endpoint", ...] = ()
    """Who knows where the server is, if the URL doesn't: then it has no `host`, and ..."""
    master_name: str = ""
    """... this is what they call it. (A sentinel has the name, too.)"""

    def at(self, host: str, port: int) -> "Endpoint":
        """The server of this name as its sentinels have found it."""
        return replace(self, host=host, port=port, sentinels=(), master_name="")

    seeds: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of some nodes of a Redis Cluster, if it is one; `host` and `port` are those of the
    first."""

    @property
    def is_cluster(self) -> bool:
        """Whether it names nodes of a Redis Cluster, and no server that one might use."""
        return bool(self.seeds)

    def credentials(self) -> tuple[str, str]:
        """User name and password as they are now. Raises InvalidRedisUrl if a file can't be read."""
        username, password = self.username, self.password
        if self.files.url_file is not None:
            now = parse_url(read_secret(self.files.url_file))
            if self.master_name and now.sentinels:  # we are one of them
                now = now.sentinels[0]
            username, password = now.username, now.password
        if self.files.password_file is not None:
            password = read_secret(self.files.password_file)
        return self.files.username or username, password

    def __str__(self) -> str:
        if self.sentinels:
            return f"{self.master_name!r} of {', '.join(map(str, self.sentinels))}"
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_secret(file: Path) -> str:
    """The first line of a file. Raises InvalidRedisUrl, which has nothing of it."""
    try:
        with file.open() as opened:
            text = opened.readline(_SECRET_CHARACTERS).strip()
    except OSError as error:
        raise InvalidRedisUrl(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRedisUrl(f"{file}: not UTF-8") from None
    if not text:
        raise InvalidRedisUrl(f"{file}: is empty")
    return text


def parse_url(url: str, files: ServerFiles = ServerFiles()) -> Endpoint:
    """`redis://[[user]:password@]host[:port][/db]`, `rediss://` (TLS), `unix://[[user]:password@]/path[?db=n]`.

    `rediss://` takes the options ssl_ca_certs, ssl_certfile, ssl_keyfile (paths) and ssl_cert_reqs (required,
    none). `redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/db]` and `rediss+sentinel://`
    (TLS to both) name sentinels and what they call the primary; user and password are those of the primary,
    the sentinels' own are options: sentinel_username, sentinel_password. `redis+cluster://` and
    `rediss+cluster://` may name several nodes of a Redis Cluster, with commas between them. Raises
    InvalidRedisUrl. The text of the error never has the password in it.
    """
    scheme = url.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _parse_sentinels(scheme, url, files)
    if scheme.endswith(_CLUSTER) and scheme.removesuffix(_CLUSTER) in ("redis", "rediss"):
        return _parse_cluster(scheme.removesuffix(_CLUSTER), url, files)
    if scheme not in _SCHEMES or "://" not in url:
        raise InvalidRedisUrl(
            "the Redis URL does not begin with one of redis://, rediss://, unix://, redis+sentinel://,"
            " rediss+sentinel://, redis+cluster://, rediss+cluster://"
        )
    try:
        endpoint = _READERS[scheme](*_split(url))
    except ValueError as error:
        raise InvalidRedisUrl(f"the Redis URL is not valid: {error}") from None
    return replace(endpoint, tls=files.complete(endpoint.tls), files=files)


def _parse_sentinels(scheme: str, url: str, files: ServerFiles) -> Endpoint:
    """By the same rules as a URL of one server, but for its hosts and its path."""
    rest = url.partition("://")[2]
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    user, separator, hosts = rest[:end].rpartition("@")
    try:
        parts, options = _split(f"{scheme}://{user}{separator}sentinel{rest[end:]}")
        addresses = [_address(host) for host in hosts.split(",")]
        name, _, database = unquote(parts.path).strip("/").partition("/")
        if not name:
            raise ValueError("it does not say what the sentinels call the primary (.../mymaster)")
        if len(addresses) > _SENTINELS_MAXIMUM:
            raise ValueError(f"it names more than {_SENTINELS_MAXIMUM} sentinels: some of them will do")
        of_tls = _TLS_OPTIONS if scheme.startswith("rediss") else ()
        _refuse_unknown(options, ("db", *_SENTINEL_OPTIONS, *of_tls))
        primary = Endpoint(
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=_database(database or options.get("db", "0")),
            tls=files.complete(_read_tls(options) if of_tls else None),
            files=files,
            master_name=name,
        )
    except ValueError as error:
        raise InvalidRedisUrl(f"the Redis URL is not valid: {error}") from None
    sentinel = replace(
        primary,
        username=options.get("sentinel_username", ""),
        password=options.get("sentinel_password", ""),
        database=0,
        files=files.of_sentinels(),
    )
    found = dict.fromkeys(addresses)
    return replace(primary, sentinels=tuple(replace(sentinel, host=host, port=port) for host, port in found))


def _address(host_and_port: str) -> tuple[str, int]:
    parts, _ = _split(f"//{host_and_port}")
    if not parts.hostname:
        raise ValueError("it names no host, or an empty one between commas")
    return unquote(parts.hostname), SENTINEL_PORT if parts.port is None else parts.port


def _parse_cluster(scheme: str, url: str, files: ServerFiles) -> Endpoint:
    """Each of the hosts is one with which the URL would do alone."""
    rest = url.partition("://")[2]
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    user, separator, hosts = rest[:end].rpartition("@")
    nodes = [parse_url(f"{scheme}://{user}{separator}{host}{rest[end:]}", files) for host in hosts.split(",")]
    if any(node.database for node in nodes):
        raise InvalidRedisUrl("a Redis Cluster has the database 0 only")
    if len(nodes) > _SEEDS_MAXIMUM:
        raise InvalidRedisUrl(f"the Redis URL names more than {_SEEDS_MAXIMUM} nodes: some of them will do")
    return replace(nodes[0], seeds=tuple(dict.fromkeys((node.host, node.port) for node in nodes)))


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts and the options. The standard library's errors may quote the password: not passed on."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        _ = parts.port  # a property that is checked when it is read
    except ValueError:
        raise ValueError(
            "it can't be taken apart (in a user name or password, each of / ? # [ ] @ : % is written as"
            " %2F %3F %23 %5B %5D %40 %3A %25)"
        ) from None
    return parts, options


def _read_tcp(parts: SplitResult, options: dict[str, str]) -> Endpoint:
    if not parts.hostname:
        raise ValueError("it names no host")
    _refuse_unknown(options, ("db", *_TLS_OPTIONS) if parts.scheme == "rediss" else ("db",))
    path = unquote(parts.path).strip("/")
    return Endpoint(
        host=unquote(parts.hostname),
        port=DEFAULT_PORT if parts.port is None else parts.port,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=_database(path or options.get("db", "0")),
        tls=_read_tls(options) if parts.scheme == "rediss" else None,
    )


def _read_unix(parts: SplitResult, options: dict[str, str]) -> Endpoint:
    if parts.hostname:
        raise ValueError("the path of a unix socket begins with a slash, after unix://")
    if parts.path in ("", "/"):
        raise ValueError("it names no socket")
    _refuse_unknown(options, ("db",))
    return Endpoint(
        path=unquote(parts.path),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=_database(options.get("db", "0")),
    )


def _read_tls(options: dict[str, str]) -> Tls:
    verification = options.get("ssl_cert_reqs", "required")
    if verification not in _VERIFICATION:
        raise ValueError(f"ssl_cert_reqs is one of {', '.join(_VERIFICATION)}")
    return Tls(
        verify=_VERIFICATION[verification],
        ca_file=options.get("ssl_ca_certs", ""),
        certificate_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
    )


def _refuse_unknown(options: dict[str, str], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise ValueError(f"there is no option {name!r} (known: {', '.join(known)})")


def _database(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("the database is a number")
    return int(text)


_READERS: Final[dict[str, Callable[[SplitResult, dict[str, str]], Endpoint]]] = {
    "redis": _read_tcp,
    "rediss": _read_tcp,
    "unix": _read_unix,
}
