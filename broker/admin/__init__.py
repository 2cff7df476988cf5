"""The HTTP side of a node: for probes and scrapers, and for those who steer the cluster."""

from broker.admin.api import make_api
from broker.admin.app import make_app, metrics_response, probe
from broker.admin.doorway import make_door
from broker.admin.front import front_routes
from broker.admin.server import serve_admin, serve_app, serve_socket

__all__ = [
    "front_routes",
    "make_api",
    "make_app",
    "make_door",
    "metrics_response",
    "probe",
    "serve_admin",
    "serve_app",
    "serve_socket",
]
