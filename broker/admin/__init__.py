"""The HTTP side of a node, for probes and scrapers. It reads what the node tells; it changes nothing."""

from broker.admin.app import make_app
from broker.admin.server import serve_admin

__all__ = ["make_app", "serve_admin"]
