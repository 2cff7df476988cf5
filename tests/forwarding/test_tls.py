"""Targets that have to prove themselves: an HTTP server, and a broker, here the node itself."""

import ssl
from pathlib import Path

import pytest

from tests.forwarding.conftest import forward, wait_until
from tests.forwarding.hook import hooked
from tests.node.harness import running_node
from tests.node.wire import connected
from tests.ports import free_port
from tests.tools import make_certificate


@pytest.mark.timeout(40)
def test_who_can_not_prove_itself_gets_nothing(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    port = free_port()
    with hooked(context) as hook:
        bridge = {"kind": "mqtt", "url": f"mqtts://localhost:{port}", "topics": "t/#"}
        webhook = {"kind": "webhook", "url": hook.url, "topics": "t/#"}
        environment = {
            **forward("bridge", ca_file=certificate.file, add_prefix="trusted/", **bridge),
            **forward("far", add_prefix="far/", **bridge),
            **forward("hook", ca_file=certificate.file, **webhook),
            **forward("stranger", **webhook),
            "MOORLINE_LISTENERS__TLS__ADDRESS": f"mqtts://127.0.0.1:{port}",
            "MOORLINE_LISTENERS__TLS__CERTIFICATE": str(certificate.file),
            "MOORLINE_LISTENERS__TLS__KEY": str(certificate.key),
        }
        with (
            running_node(tmp_path, environment=environment) as node,
            connected(node.port, "s") as subscriber,
            connected(node.port, "p") as publisher,
        ):
            wait_until(node, "bridge", lambda status: status["state"] == "running")
            subscriber.subscribe("trusted/#", "far/#", qos=1)
            publisher.publish("t/x", b"m", 1)
            assert subscriber.message().topic == "trusted/t/x"
            assert [posted.document["payload"] for posted in hook.wait_for(1)] == ["m"]
            for name in ("far", "stranger"):
                wait_until(node, name, lambda status: "VERIFY_FAILED" in (status["last_error"] or ""))
            subscriber.assert_silence()
            assert len(hook.posted) == 1
