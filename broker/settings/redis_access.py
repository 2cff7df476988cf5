"""The part of the settings of Redis that is about getting there: URL, user, files with secrets, TLS."""

from pathlib import Path
from typing import Final, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from broker.settings.certificate import check_readable
from broker.settings.group import RESTORING, Group
from broker.settings.values import RedisUrl

_OF_TLS: Final = ("ca_file", "certificate", "key", "server_name")
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password_file")
_BESIDE: Final = ("username", "password_file", *_OF_TLS, *_OF_SENTINELS)


class RedisAccessSettings(Group):
    """The URL, and what is said beside it and wins over it."""

    url: RedisUrl = Field(
        default=None,
        repr=False,
        description="`redis://`, `rediss://` or `unix://` URL; or `redis+sentinel://host,host,host/name`"
        " (TLS: `rediss+sentinel://`), the sentinels and what they call the primary; or"
        " `redis+cluster://host,host` (TLS: `rediss+cluster://`), some nodes of a Redis Cluster. Default: the"
        " node starts a private server in `data_dir`. Nodes with the same server and prefix are one broker.",
    )
    url_file: Path | None = Field(
        default=None,
        description="File whose first line is the URL, in place of `redis.url`. User name and password in it"
        " are looked for again whenever a connection is made; where the server is, when the node starts.",
    )
    username: str | None = Field(
        default=None, description="User of Redis (ACL). Default: that of the URL, or Redis' default user."
    )
    password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password. Read again whenever a connection is made, so that"
        " it can be changed while nodes run: first let Redis take both passwords, change the file, and take"
        " the old one away.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="File with the authorities that have signed the certificate of a `rediss://` server; PEM."
        " Default: those of the system. Read again whenever a connection is made, as are the next two.",
    )
    certificate: Path | None = Field(
        default=None,
        description="File with the certificate by which a node proves itself to a `rediss://` server; PEM.",
    )
    key: Path | None = Field(
        default=None,
        description="File with its private key; PEM, without a passphrase. Default: in the same.",
    )
    server_name: str | None = Field(
        default=None,
        description="Name that the certificate of a `rediss://` server has to be for. Default: the host of"
        " the URL. For a server that is reached by an address which is not in its certificate.",
    )
    sentinel_username: str | None = Field(
        default=None,
        description="User of the sentinels (ACL), which have users of their own. Default: that of the URL's"
        " option `sentinel_username`, or their default user.",
    )
    sentinel_password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password of the sentinels. Default: the URL's option"
        " `sentinel_password`, or none. Read again whenever a connection is made.",
    )

    @field_validator("url_file", "password_file", "ca_file", "certificate", "key", "sentinel_password_file")
    @classmethod
    def _is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @model_validator(mode="after")
    def _go_together(self, info: ValidationInfo) -> Self:
        if info.context == RESTORING:  # a worker is told the URL by its parent
            return self
        if self.url is not None and self.url_file is not None:
            raise ValueError("redis.url and redis.url_file: give one of them")
        beside = [name for name in _BESIDE if getattr(self, name) is not None]
        if beside and not self.is_given:
            raise ValueError(
                f"redis.{beside[0]} is for a Redis of your own: give redis.url or redis.url_file"
            )
        of_tls = [name for name in beside if name in _OF_TLS]
        if self.url is not None and of_tls and not self.url.startswith("rediss"):
            raise ValueError(f"redis.{of_tls[0]} is for TLS, but redis.url does not begin with rediss")
        of_sentinels = [name for name in beside if name in _OF_SENTINELS]
        if self.url is not None and of_sentinels and "+sentinel://" not in self.url:
            raise ValueError(f"redis.{of_sentinels[0]} is for sentinels, but redis.url names none")
        if self.key is not None and self.certificate is None:
            raise ValueError("redis.key needs redis.certificate")
        return self

    @property
    def is_given(self) -> bool:
        """Whether there is a Redis that the node does not start itself."""
        return self.url is not None or self.url_file is not None
