"""What happens now, as it happens: events and traces, from both nodes."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Watched
from tests.browser.stage import HOSTILE, HOSTILE_SHOWN, STAGE_SECONDS, Stage
from tests.node.wire import connected

pytestmark = pytest.mark.timeout(STAGE_SECONDS)


def test_events_of_both_nodes(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/events")
    page.get_by_text("following").wait_for()
    log = page.get_by_role("log")
    for node, client_id in zip(stage.nodes, ("first", HOSTILE), strict=True):
        with connected(node.port, client_id) as client:
            client.subscribe("a/b")
    expect(log).to_contain_text(re.compile("node-1 connected first.*node-1 disconnected first", re.DOTALL))
    expect(log).to_contain_text(f"node-2 subscribed {HOSTILE_SHOWN}")
    assert page.locator("main img").count() == 0


def test_events_of_one_kind_and_client(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/events")
    page.get_by_label("Kind").select_option("connected")
    page.get_by_label("Client id").fill("chosen-*")
    page.get_by_role("button", name="Follow").click()
    page.get_by_text("following").wait_for()
    log = page.get_by_role("log")
    for client_id in ("other", "chosen-1"):
        with connected(stage.nodes[1].port, client_id):
            pass
    expect(log).to_contain_text("connected chosen-1")
    expect(log).not_to_contain_text("other")
    expect(log).not_to_contain_text("disconnected")


def test_a_log_can_be_held(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/events?client_id=held")
    page.get_by_text("following").wait_for()
    page.get_by_role("button", name="Hold").click()
    with connected(stage.nodes[0].port, "held"):
        expect(page.get_by_role("log")).to_be_empty()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("log")).to_contain_text("connected held")


def test_a_trace(stage: Stage, watched: Watched) -> None:
    """Started, followed on the node where the client is, with what it publishes, and stopped."""
    page = watched.page
    page.goto(f"{stage.url()}#/trace?client_id=traced")
    page.get_by_label("payloads").check()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("following").wait_for()
    with connected(stage.nodes[1].port, "traced") as client:
        client.publish("traced/here", b"<b>payload</b>", 1)
    log = page.get_by_role("log")
    expect(log).to_contain_text(re.compile(r"node-2 traced → CONNECT .*← CONNACK.*→ PUBLISH", re.DOTALL))
    expect(log).to_contain_text("<b>payload</b>")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
