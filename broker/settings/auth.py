"""The group of settings for who may come in, and what clients may do."""

from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from broker.settings.auth_audit import AuditSettings
from broker.settings.auth_certificate import CertificateAuthSettings
from broker.settings.auth_http import HttpHookSettings
from broker.settings.auth_redis import RedisAuthSettings
from broker.settings.auth_sql import SqlSettings
from broker.settings.certificate import check_readable
from broker.settings.group import DAY_SECONDS, RESTORING

ASKING = (
    "certificate_username",
    "password_file",
    "redis_users",
    "jwt_keys",
    "jwt_keys_url",
    "sql_user_query",
    "http_authenticate_url",
    "authenticators",
)
"""Fields each of which makes clients say who they are."""
_NOTHING: Final = ("none", "", "[]", "()", "off", "false", "0", "no", "f", "n")


class AuthSettings(AuditSettings, SqlSettings, HttpHookSettings, CertificateAuthSettings, RedisAuthSettings):
    """Who may come in, and what clients may do; see [security](security.md)."""

    password_file: Path | None = Field(
        default=None,
        description="File with users and hashes of their passwords, as `moorline passwd` writes it. Read"
        " again when it changes. Whoever loses their place in it, or gets another password, is"
        " disconnected.",
    )
    rules_file: Path | None = Field(
        default=None,
        description="TOML file with the rules for publishing and subscribing. Read again when it changes;"
        " connected clients are held to it at once. None, and no other authorizer: clients may do"
        " everything but read `$SYS`, or that too if nobody is asked who they are.",
    )
    jwt_keys: Path | None = Field(
        default=None,
        description="File with the keys of tokens that clients send as their password (JWT): a JWKS, or a"
        " TOML file with a table of keys, each with its algorithm. Read again when it changes.",
    )
    jwt_keys_url: str | None = Field(
        default=None,
        description="Address of a JWKS with public keys: `https://`, or `http://` on this machine. Read"
        " when the node starts, now and then, and when a token names an unknown key.",
    )
    jwt_keys_refresh_seconds: float = Field(
        default=300.0,
        ge=10,
        le=DAY_SECONDS,
        description="Seconds between two readings of `auth.jwt_keys_url`. Too small: load for whoever keeps"
        " it. Too large: a key that was withdrawn is trusted for that long.",
    )
    jwt_issuer: str | None = Field(
        default=None, description="What `iss` of a token has to be. None: anything. Set it if you can."
    )
    jwt_audience: str | None = Field(
        default=None,
        description="What has to be in `aud` of a token. None: tokens with an `aud` are refused.",
    )
    jwt_username_claim: str = Field(
        default="sub", min_length=1, description="Claim of a token that is the user name. It has to be there."
    )
    jwt_leeway_seconds: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds that clocks may differ when a token is checked. Too small: tokens are refused"
        " just after they were made. Too large: they are valid for longer than they say.",
    )
    authenticators: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        description="Plug-ins that are asked who a client is, after all others, in this"
        " order: names of entry points of the group `moorline.authenticators`. In a variable it is JSON.",
    )
    authorizers: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        description="Plug-ins that are asked what a client may do if no rule decides, in this order: names"
        " of entry points of the group `moorline.authorizers`. In a variable it is JSON.",
    )
    timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds one authenticator or authorizer may take. Too small: clients are refused while"
        " a server behind it is slow. Too large: they wait, and what they have sent takes memory.",
    )
    on_failure: Literal["deny", "skip"] = Field(
        default="deny",
        description="What a database, HTTP server or plug-in that fails or takes too long means: `deny`, or"
        " `skip`: it has no opinion, and the next one is asked. With `skip` whoever can make it fail gets"
        " past it.",
    )
    unmatched: Literal["deny", "allow"] = Field(
        default="deny",
        description="What a client may do about which no rule and no plug-in decides, if there are any."
        " `$SYS` always needs one that allows it.",
    )
    denied_publish: Literal["drop", "disconnect"] = Field(
        default="drop",
        description="What becomes of a client of MQTT 3 that publishes what it may not: the message is"
        " acknowledged and dropped, as nothing else can tell it, or it is disconnected. MQTT 5 clients are"
        " told (0x87) at QoS 1 and 2.",
    )
    on_revoked: Literal["unsubscribe", "disconnect"] = Field(
        default="unsubscribe",
        description="What becomes of a client with a subscription that it may not have any more: it loses"
        " the subscription, and is not told, or it is disconnected (0x87), too.",
    )
    cache_seconds: float = Field(
        default=60.0,
        ge=0,
        le=DAY_SECONDS,
        description="Seconds for which it is remembered what authenticators and plug-ins have answered. 0:"
        " not at all. Too small: a storm of clients that come back asks them all at once. Too large: what"
        " they have changed their mind about counts that late. Files count at once.",
    )
    cache_entries: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Answers about clients that are remembered, per authenticator, and as many refusals."
        " Too small: as with `auth.cache_seconds` of 0. Too large: about 300 bytes each.",
    )
    decisions_per_client: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Topics of one connection for which it is remembered whether it may publish there. Too"
        " small: a client with more topics costs time. Too large: each connection may keep that many"
        " topics, up to 64 KiB each, in memory.",
    )
    hash_threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Passwords that are hashed at a time. Each takes a core and 19 MiB for some 30 ms. Too"
        " small: many new clients wait, or are told that the server is busy. Too large: they take the cores"
        " from everybody else.",
    )
    hash_queue: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Passwords that wait to be hashed; beyond it clients are told that the server is busy"
        " (0x89), first those from the address with the most in it. Too small: a storm of new clients has"
        " to try several times. Too large: they wait for longer than `auth.timeout_seconds`, and are"
        " refused then.",
    )

    @field_validator("password_file", "rules_file", "jwt_keys")
    @classmethod
    def _is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @field_validator("jwt_keys_url")
    @classmethod
    def _is_trustworthy(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https://x")
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
            raise ValueError("begins neither with https:// nor with http:// and the name of this machine")
        return url or None

    @model_validator(mode="after")
    def _has_users_for_scram(self) -> Self:
        if self.scram and not self.redis_users and self.password_file is None:
            raise ValueError("scram: it needs auth.password_file or auth.redis_users")
        return self

    @property
    def asks(self) -> bool:
        """Whether clients have to say who they are."""
        return asks(self.model_dump(include=set(ASKING)))


def asks(given: Any) -> bool:
    """The same of values that have not been looked at yet."""
    return isinstance(given, dict) and any(str(given.get(field)).lower() not in _NOTHING for field in ASKING)
