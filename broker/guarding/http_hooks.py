"""The HTTP server that is asked about clients."""

from broker.auth import Authorizer, Link
from broker.auth.http_client import HttpClient, read_headers
from broker.auth.http_hook import SOURCE, HttpAuthenticator, HttpAuthorizer
from broker.auth.remote import Remote
from broker.auth.watched import WatchedFile
from broker.client import Hub
from broker.guarding.parts import Parts, load_now, until_stopped
from broker.settings.auth_http import http_context


def http_authenticator(parts: Parts, url: str) -> Link:
    """At `auth.http_authenticate_url`."""
    authenticator = HttpAuthenticator(_client(parts, url), _remote(parts, "http_authenticate"))
    return Link(SOURCE, authenticator, parts.cache())


def http_authorizer(parts: Parts, url: str) -> tuple[str, Authorizer]:
    """At `auth.http_authorize_url`, with its name."""
    return SOURCE, HttpAuthorizer(_client(parts, url), _remote(parts, "http_authorize"))


def _remote(parts: Parts, name: str) -> Remote:
    auth = parts.settings.auth
    return Remote(name, auth.http_connections, auth.http_queue, parts.counters.auth_requests)


def _client(parts: Parts, url: str) -> HttpClient:
    """Follows its file of headers, and is closed at the end."""
    auth = parts.settings.auth
    context = http_context(auth.http_ca_file, auth.http_certificate, auth.http_key)
    client = HttpClient(url, (), context)
    if auth.http_headers_file is not None:
        file = WatchedFile(
            "http_headers_file", auth.http_headers_file, read_headers, parts.counters.auth_reloads
        )
        client.headers = load_now(file)

        async def follow(hub: Hub) -> None:
            await file.run(lambda headers: setattr(client, "headers", headers))

        parts.watches.append(follow)
    parts.watches.append(until_stopped(client.close))
    return client
