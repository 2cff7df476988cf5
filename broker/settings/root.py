"""All groups of settings, and the listeners that have tables of their own."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from broker.settings.address import Address, Place, SocketPath
from broker.settings.admin import AdminSettings
from broker.settings.alarms import AlarmSettings
from broker.settings.auth import AuthSettings, asks
from broker.settings.bans import BanSettings
from broker.settings.forwards import ForwardSettings, ForwardTables, forwards_fit
from broker.settings.history import HistorySettings
from broker.settings.limits import LimitSettings
from broker.settings.listener import ListenerSettings
from broker.settings.listener_address import Kind, ListenerAddress
from broker.settings.model import (
    ClusterSettings,
    KubernetesSettings,
    NodeSettings,
    RedisSettings,
    SessionSettings,
    clients_are_asked,
    refuse_public,
)
from broker.settings.mqtt import MqttSettings
from broker.settings.telemetry import TelemetrySettings
from broker.settings.topics import TopicSettings

ENVIRONMENT_PREFIX = "MOORLINE_"
PLAIN_LISTENER = "listen"

ListenerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]


class Settings(BaseSettings):
    """All groups. Made by `load`, which collects the mistakes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    node: NodeSettings = Field(default_factory=NodeSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    session: SessionSettings = Field(default_factory=SessionSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    topics: TopicSettings = Field(default_factory=TopicSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    bans: BanSettings = Field(default_factory=BanSettings)
    history: HistorySettings = Field(default_factory=HistorySettings)
    alarms: AlarmSettings = Field(default_factory=AlarmSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    listeners: dict[ListenerName, ListenerSettings] = Field(default_factory=dict, validate_default=True)
    forwards: ForwardTables = Field(default_factory=dict, max_length=100)

    @model_validator(mode="wrap")
    @classmethod
    def _tell_whether_clients_are_asked(cls, given: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        """Whoever looks at addresses has to know, and not only when all groups are right."""
        token = clients_are_asked.set(isinstance(given, dict) and asks(given.get("auth")))
        try:
            return make(given)
        finally:
            clients_are_asked.reset(token)

    @field_validator("listeners")
    @classmethod
    def _listeners_fit(
        cls, listeners: dict[str, ListenerSettings], info: ValidationInfo
    ) -> dict[str, ListenerSettings]:
        node: NodeSettings | None = info.data.get("node")
        if node is None:  # a mistake of its own
            return listeners
        if PLAIN_LISTENER in listeners:
            raise ValueError(f"{PLAIN_LISTENER}: that is what rules call the listeners of node.listen")
        taken: set[Place] = {*node.listen, *node.admin}
        for name, listener in listeners.items():
            address = listener.address.address
            if isinstance(address, SocketPath) and node.workers > 1:
                raise ValueError(f"{name}: a unix socket is one worker's, and node.workers is {node.workers}")
            if (isinstance(address, SocketPath) or address.port) and address in taken:
                raise ValueError(f"{name}: {address} is used by another listener or by node.admin")
            taken.add(address)
        if not node.listen and not listeners:
            raise ValueError("there is no listener at all, as node.listen is off")
        refuse_public(
            str(listener.address.address)
            for listener in listeners.values()
            if listener.is_public
            and not (node.allow_anonymous if listener.allow_anonymous is None else listener.allow_anonymous)
            and not (clients_are_asked.get() if listener.authentication is None else listener.authentication)
        )
        return listeners

    @field_validator("session")
    @classmethod
    def _any_message_fits(cls, session: SessionSettings, info: ValidationInfo) -> SessionSettings:
        mqtt: MqttSettings | None = info.data.get("mqtt")
        if mqtt is not None and 0 < session.queue_bytes < mqtt.maximum_packet_size:
            raise ValueError("queue_bytes is less than mqtt.maximum_packet_size")
        return session

    @field_validator("forwards")
    @classmethod
    def _forwards_fit(
        cls, forwards: dict[str, ForwardSettings], info: ValidationInfo
    ) -> dict[str, ForwardSettings]:
        redis: RedisSettings | None = info.data.get("redis")
        return forwards_fit(forwards, redis.prefix if redis is not None else None)

    def all_listeners(self) -> list[ListenerSettings]:
        """Those of `node.listen`, then the others."""
        plain = [ListenerSettings(address=ListenerAddress(Kind.TCP, address)) for address in self.node.listen]
        return [*plain, *self.listeners.values()]

    def listener_names(self) -> list[str]:
        """Of `all_listeners`, in their order; those of `node.listen` have one name."""
        return [PLAIN_LISTENER] * len(self.node.listen) + list(self.listeners)

    def bound_to(self, listeners: Sequence[ListenerSettings]) -> "Settings":
        """The same, where `all_listeners` are these, with the ports that they got."""
        plain = len(self.node.listen)
        places = [listener.address.address for listener in listeners[:plain]]
        listen = tuple(place for place in places if isinstance(place, Address))
        return self.model_copy(
            update={
                "node": self.node.model_copy(update={"listen": listen}),
                "listeners": dict(zip(self.listeners, listeners[plain:], strict=True)),
            }
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file; no .env file and no secrets directory."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
