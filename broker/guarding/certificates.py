"""Certificates of clients, which listeners have verified."""

from broker.auth import Link
from broker.auth.certificate import SOURCE, Certificates
from broker.guarding.parts import Parts


def certificate_link(parts: Parts) -> Link:
    """Needs nothing but what the client came with."""
    return Link(SOURCE, Certificates(parts.settings.auth.certificate_username))
