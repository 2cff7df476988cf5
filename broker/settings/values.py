"""How people write the values of settings: the types of fields that need more than a bound."""

import os
import re
import socket
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, InstanceOf, PlainSerializer
from pydantic_settings import NoDecode

from broker.settings.address import Address, parse_address

SERVER_REFERENCE_LENGTH = 1024
RESPONSE_INFORMATION_LENGTH = 256
WORKERS_MAXIMUM = 1024
_MEMORY_MINIMUM_BYTES = 33_554_432  # a node that has nothing to do takes about as much
REDIS_SCHEMES = (
    *("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)


def _parse_addresses(value: object) -> tuple[Address, ...]:
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts:
        raise ValueError("not a list of HOST:PORT")
    addresses = tuple(_parse_listed(part) for part in parts)
    fixed = [address for address in addresses if address.port]
    if len(set(fixed)) < len(fixed):
        raise ValueError("the same address is there twice")
    return addresses


def _parse_listed(part: object) -> Address:
    """One address of several: the mistake says which."""
    if "://" in str(part):
        raise ValueError(f"{part!r}: this is for MQTT over TCP; TLS and WebSocket have tables in [listeners]")
    try:
        return parse_address(part)
    except ValueError as error:
        raise ValueError(f"{part!r}: {error}") from None


def _parse_addresses_or_off(value: object) -> tuple[Address, ...]:
    is_off = value in (None, "off", ()) or (
        isinstance(value, list) and value[-1:] == ["off"]
    )  # flags before it
    return () if is_off else _parse_addresses(value)


def _parse_workers(value: object) -> int:
    if value == "auto":
        return min(usable_cores(), WORKERS_MAXIMUM)
    text = str(value)
    count = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= count <= WORKERS_MAXIMUM:
        raise ValueError(f"not a number from 1 to {WORKERS_MAXIMUM}, nor auto")
    return count


def usable_cores() -> int:
    """Processor cores that this process may run on; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_name(name: str, number: int) -> str:
    """What the worker with this number, from 1, of a node with this name is called."""
    return f"{name}-{number}"


def _parse_redis_url(value: object) -> str | None:
    if value is None or value == "":
        return None
    scheme, separator, _ = str(value).partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"does not begin with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}")
    return str(value)


def _parse_response_information(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if not text.isprintable() or len(text) > RESPONSE_INFORMATION_LENGTH or "+" in text or "#" in text:
        raise ValueError(
            f"not a line of at most {RESPONSE_INFORMATION_LENGTH} characters without the wildcards + and #"
        )
    return text


def _parse_server_reference(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if not text.isprintable() or len(text) > SERVER_REFERENCE_LENGTH:
        raise ValueError(f"not a line of at most {SERVER_REFERENCE_LENGTH} characters")
    return text


def _parse_memory_mark(value: object) -> int | Literal["auto"]:
    """0: off."""
    if value == "auto":
        return "auto"
    text = str(value)
    if value in ("off", None) or text == "0":
        return 0
    if not (text.isascii() and text.isdecimal() and int(text) >= _MEMORY_MINIMUM_BYTES):
        raise ValueError(f"not a number of bytes from {_MEMORY_MINIMUM_BYTES:,} on, nor auto or off")
    return int(text)


def _parse_auto(value: object) -> object:
    """A file may say true where a variable says "true"."""
    return str(value).lower() if isinstance(value, bool | str) else value


def default_name(validated: dict[str, Any]) -> str:
    """`<hostname>-<port>`; the process id where the system picks the port: two nodes of a machine differ."""
    listen: tuple[Address, ...] = validated.get("listen", ())
    number = next((address.port for address in listen if address.port), os.getpid())
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()}-{number}")


ListenOrOff = Annotated[
    tuple[InstanceOf[Address], ...],
    BeforeValidator(_parse_addresses_or_off),
    PlainSerializer(
        lambda addresses: [str(address) for address in addresses] or "off",
        when_used="json",
    ),
    NoDecode,
]
Workers = Annotated[int, BeforeValidator(_parse_workers)]
MemoryMark = Annotated[int | Literal["auto"], BeforeValidator(_parse_memory_mark)]
RedisUrl = Annotated[str | None, BeforeValidator(_parse_redis_url)]
ResponseInformation = Annotated[str | None, BeforeValidator(_parse_response_information)]
ServerReference = Annotated[str | None, BeforeValidator(_parse_server_reference)]
AutoOrBool = Annotated[Literal["auto", "true", "false"], BeforeValidator(_parse_auto)]
