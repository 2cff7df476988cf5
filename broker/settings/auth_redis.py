"""The settings for users and rules that are kept in Redis."""

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.group import Group

SCRAM_ITERATIONS_LEAST = 4096  # [RFC 7677: 4]


class RedisAuthSettings(Group):
    """A part of `auth`."""

    redis_users: bool = Field(
        default=False,
        description="Ask the users that are kept in Redis, under `redis.prefix`, the same for all nodes;"
        " `moorline ctl users` manages them. Whoever is deleted, disabled or gets another password is"
        " disconnected within a second, everywhere.",
    )
    redis_rules: bool = Field(
        default=False,
        description="Follow the rules that are kept in Redis, after those of `auth.rules_file`; `moorline ctl"
        " rules` manages them. While there are none, what the file does not decide is `auth.unmatched`.",
    )
    scram: bool = Field(
        default=False,
        description="Let users of Redis come in by the Authentication Method `SCRAM-SHA-256` of MQTT 5, too,"
        " for which their password does not travel. Keys for it are kept from the next password on: whoever"
        " steals them can try passwords faster than with the argon2id hash.",
    )
    scram_iterations: int = Field(
        default=15_000,
        ge=SCRAM_ITERATIONS_LEAST,
        le=1_000_000,
        description="Iterations of the hash in new keys for SCRAM. Each client does them when it connects."
        " Too small: stolen keys are easier to guess from. Too large: small devices take long.",
    )

    @field_validator("scram")
    @classmethod
    def _has_users(cls, scram: bool, info: ValidationInfo) -> bool:
        if scram and info.data.get("redis_users") is False:
            raise ValueError("there are only users of Redis for it: it needs auth.redis_users")
        return scram

    @property
    def scram_keys(self) -> int | None:
        """Iterations of the keys that users get with a password; None: they get none."""
        return self.scram_iterations if self.scram else None
