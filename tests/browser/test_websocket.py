"""MQTT.js in a browser, over WSS: what a page of an application does. And from the dashboard, over WS."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import Watched, launched
from tests.browser.stage import STAGE_SECONDS, Stage
from tests.node.wire import connected
from tests.tools import make_certificate

pytestmark = pytest.mark.timeout(STAGE_SECONDS)

ROUND_TRIP = """async ([url, topic, protocolVersion, count]) => {
  const { default: mqtt } = await import("/mqtt.js");
  const client = await mqtt.connectAsync(url, { protocolVersion, reconnectPeriod: 0, connectTimeout: 5000 });
  const seen = [];
  const all = new Promise((done) => {
    client.on("message", (_, payload) => seen.push(payload.toString()) === 3 * count && done());
  });
  await client.subscribeAsync(topic, { qos: 2 });
  for (const qos of [0, 1, 2]) {
    for (let each = 0; each < count; each++) await client.publishAsync(topic, `${qos}-${each}`, { qos });
  }
  await all;
  await client.endAsync();
  return seen;
}"""
OPEN = """async (url) => {
  const socket = new WebSocket(url, "mqtt");
  return await new Promise((done) => {
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
}"""
COUNT = 5


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("version", [4, 5])
def test_mqttjs_over_wss(stage: Stage, page: Page, version: int) -> None:
    """Each QoS, with TLS that is checked, from a page that may."""
    page.goto(stage.origin("app"))
    seen = page.evaluate(ROUND_TRIP, [stage.listener("wss"), f"app/{version}", version, COUNT])
    assert seen == [f"{qos}-{each}" for qos in (0, 1, 2) for each in range(COUNT)]


def test_from_one_node_to_the_other(stage: Stage, page: Page) -> None:
    page.goto(stage.origin("app"))
    with connected(stage.nodes[1].port, "listener") as listener:
        listener.subscribe("app/across", qos=1)
        seen = page.evaluate(ROUND_TRIP, [stage.listener("wss", 0), "app/across", 5, 1])
        assert len(seen) == 3
        assert sorted(listener.payloads(3)) == [b"0-0", b"1-0", b"2-0"]


def test_pages_of_others_are_refused(stage: Stage, page: Page) -> None:
    for name, outcome in [("app", "open"), ("evil", "refused")]:
        page.goto(stage.origin(name))
        assert page.evaluate(OPEN, stage.listener("wss")) == outcome, name


def test_a_certificate_that_is_not_believed(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    """So the others were looked at."""
    with launched(browser.browser_type, [make_certificate(tmp_path)]) as other:
        page = other.new_page()
        page.goto(stage.origin("app"))
        assert page.evaluate(OPEN, stage.listener("wss")) == "refused"


def test_the_client_of_the_dashboard(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/try")
    expect(page.get_by_label("Listener")).to_have_value(re.compile(r"ws://127\.0\.0\.1:\d+/mqtt"))
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_text("connected", exact=True).wait_for()
    page.get_by_label("Topic Filter").fill("tried/#")
    page.get_by_role("button", name="Subscribe").click()
    log = page.get_by_role("log")
    log.get_by_text("subscribed to tried/# with QoS 1").wait_for()
    page.get_by_label("Topic", exact=True).fill("tried/<b>it</b>")
    page.get_by_label("Payload").fill(json.dumps({"markup": "<img src=x onerror=alert(1)>"}))
    page.get_by_role("button", name="Publish").click()
    log.get_by_text('QoS 1 tried/<b>it</b> {"markup": "<img src=x onerror=alert(1)>"}').wait_for()
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_text("not connected", exact=True).wait_for()
