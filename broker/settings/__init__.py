"""The settings of a node.

Values come from flags, then `MOORLINE_*` environment variables (`MOORLINE_SESSION__QUEUE_LIMIT`), then the
TOML file named by `--config`, then the defaults. Only `broker.cli` calls `load`, only `broker.node` reads the
result: rooms get plain values, never the whole settings.
"""

from broker.settings.address import Address, SocketPath, advertised, parse_address
from broker.settings.admin import AdminSettings
from broker.settings.alarms import AlarmSettings
from broker.settings.auth import AuthSettings
from broker.settings.bans import BanSettings
from broker.settings.certificate import load_certificate
from broker.settings.durability import DurabilityRule, parse_level
from broker.settings.forwards import ForwardSettings
from broker.settings.group import Group
from broker.settings.history import HistorySettings
from broker.settings.limits import LimitSettings
from broker.settings.listener import ListenerSettings
from broker.settings.listener_address import Kind, ListenerAddress
from broker.settings.listener_edge import Network, plain_origin
from broker.settings.model import (
    ClusterSettings,
    KubernetesSettings,
    NodeSettings,
    RedisSettings,
    SessionSettings,
)
from broker.settings.mqtt import MqttSettings
from broker.settings.root import Settings
from broker.settings.source import dump, environment_name, groups, load, restore, setting_names
from broker.settings.telemetry import TelemetrySettings
from broker.settings.tls import CertificatePair
from broker.settings.topics import AutoSubscription, RewriteRule, TopicSettings
from broker.settings.values import worker_name

__all__ = [
    "Address",
    "AdminSettings",
    "AlarmSettings",
    "AuthSettings",
    "AutoSubscription",
    "BanSettings",
    "CertificatePair",
    "ClusterSettings",
    "DurabilityRule",
    "ForwardSettings",
    "Group",
    "HistorySettings",
    "Kind",
    "KubernetesSettings",
    "LimitSettings",
    "ListenerAddress",
    "ListenerSettings",
    "MqttSettings",
    "Network",
    "NodeSettings",
    "RedisSettings",
    "RewriteRule",
    "SessionSettings",
    "Settings",
    "SocketPath",
    "TelemetrySettings",
    "TopicSettings",
    "advertised",
    "dump",
    "environment_name",
    "groups",
    "load",
    "load_certificate",
    "parse_address",
    "parse_level",
    "plain_origin",
    "restore",
    "setting_names",
    "worker_name",
]
