"""The settings for users and rules that are kept in Redis, and for SCRAM."""

from pydantic import Field

from broker.settings.group import Group

SCRAM_ITERATIONS = 15_000
SCRAM_ITERATIONS_LEAST = 4096  # [RFC 7677: 4]
SCRAM_ITERATIONS_MOST = 1_000_000


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
        description="Let users of the password file and of Redis come in by the Authentication Method"
        " `SCRAM-SHA-256` of MQTT 5, too, for which their password does not travel. Redis has keys for it"
        " from the next password on: whoever steals them can try passwords faster than with the argon2id"
        " hash.",
    )
    scram_iterations: int = Field(
        default=SCRAM_ITERATIONS,
        ge=SCRAM_ITERATIONS_LEAST,
        le=SCRAM_ITERATIONS_MOST,
        description="Iterations of the hash in new keys for SCRAM in Redis. Each client does them when it"
        " connects. The password file has its own (`moorline passwd --iterations`), best the same."
        " Too small: stolen keys are easier to guess from. Too large: small devices take long.",
    )

    @property
    def scram_keys(self) -> int | None:
        """Iterations of the keys that users in Redis get with a password; None: they get none."""
        return self.scram_iterations if self.scram else None
