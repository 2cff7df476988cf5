"""The HTTP side of a node: for probes and scrapers, and for those who steer the cluster."""

from broker.admin.api import make_api
from broker.admin.app import make_app
from broker.admin.server import serve_admin

__all__ = ["make_api", "make_app", "serve_admin"]
