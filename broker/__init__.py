"""Moorline: a clustered MQTT broker on Redis or Valkey.

`broker.mqtt`, `broker.session`, `broker.routing` and single modules may have been compiled by mypyc; then
extension modules lie beside their sources, and Python would take those. With MOORLINE_PURE=1 in the
environment a finder takes the sources all the same, so both can be measured and tested from one installation.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

COMPILED_PACKAGES = ("broker.mqtt", "broker.session", "broker.routing")
COMPILED_MODULES = (
    "broker.auth.address",
    "broker.auth.ban_list",
    "broker.client.admitting",
    "broker.client.arriving",
    "broker.client.banning",
    "broker.client.client",
    "broker.client.closing",
    "broker.client.confirming",
    "broker.client.connecting",
    "broker.client.deadlines",
    "broker.client.deciding",
    "broker.client.entrance",
    "broker.client.fights",
    "broker.client.flows",
    "broker.client.hub",
    "broker.client.members",
    "broker.client.mounting",
    "broker.client.noting",
    "broker.client.publishing",
    "broker.client.recent",
    "broker.client.renaming",
    "broker.client.subscribing",
    "broker.client.telling",
    "broker.client.transport",
    "broker.client.wills",
    "broker.listeners.acceptor",
    "broker.listeners.admission",
    "broker.listeners.transports",
    "broker.listeners.wires",
    "broker.observability.events",
    "broker.observability.lines",
    "broker.observability.metrics",
    "broker.observability.token_bucket",
    "cluster.pulse",
    "cluster.store.call",
    "cluster.store.deadlines",
    "cluster.store.entry",
    "cluster.store.keys",
    "cluster.store.reply",
    "cluster.store.sessions",
)


class SourceFinder(MetaPathFinder):
    """Finds the compiled modules as sources, whatever lies beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the .py file; None, so that the usual finders go on, for any other module."""
        package, _, name = fullname.rpartition(".")
        if package not in COMPILED_PACKAGES and fullname not in COMPILED_MODULES:
            return None
        for directory in path or ():
            source = Path(directory, f"{name}.py")
            if source.is_file():
                return spec_from_file_location(fullname, source)
        return None


def build_mode() -> str:
    """`compiled` or `pure`: what `broker.mqtt.decoder`, and with it the three packages, runs as."""
    spec = find_spec("broker.mqtt.decoder")
    compiled = spec is not None and spec.origin is not None and not spec.origin.endswith(".py")
    return "compiled" if compiled else "pure"


if os.environ.get("MOORLINE_PURE") == "1":
    sys.meta_path.insert(0, SourceFinder())
