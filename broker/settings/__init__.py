"""The settings of a node.

Values come from flags, then `MOORLINE_*` environment variables (`MOORLINE_SESSION__QUEUE_LIMIT`), then the
TOML file named by `--config`, then the defaults. Only `broker.cli` calls `load`, only `broker.node` reads the
result: rooms get plain values, never the whole settings.
"""

from broker.settings.address import Address, parse_address
from broker.settings.group import Group
from broker.settings.model import (
    ClusterSettings,
    LimitSettings,
    MqttSettings,
    NodeSettings,
    RedisSettings,
    SessionSettings,
    Settings,
    worker_name,
)
from broker.settings.source import dump, environment_name, groups, load, restore, setting_names
from broker.settings.topics import AutoSubscription, RewriteRule, TopicSettings

__all__ = [
    "Address",
    "AutoSubscription",
    "ClusterSettings",
    "Group",
    "LimitSettings",
    "MqttSettings",
    "NodeSettings",
    "RedisSettings",
    "RewriteRule",
    "SessionSettings",
    "Settings",
    "TopicSettings",
    "dump",
    "environment_name",
    "groups",
    "load",
    "parse_address",
    "restore",
    "setting_names",
    "worker_name",
]
