"""Pages about messages and settings, against two nodes that have some."""

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Watched
from tests.browser.stage import HOSTILE_SHOWN, QUEUE_LIMIT, STAGE_SECONDS, Stage
from tests.node.wire import connected

pytestmark = pytest.mark.timeout(STAGE_SECONDS)


def test_retained_messages_as_a_tree(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/topics")
    tree = page.get_by_role("navigation", name="Topics")
    tree.get_by_role("button", name="Open plant").click()
    tree.get_by_role("button", name="Open pump-1").click()
    tree.get_by_role("button", name="state").click()
    page.get_by_role("heading", name="plant/pump-1/state").wait_for()
    assert (page.get_by_label("Payload").text_content() or "").startswith('{\n  "on": true,')
    tree.get_by_role("button", name="picture").click()
    page.get_by_text("No text; in base64:").wait_for()
    tree.get_by_role("button", name="Open plant").click()
    expect(tree.get_by_role("button", name="state")).to_be_hidden()


def test_topics_that_mean_harm(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/topics?prefix=odd/")
    tree = page.get_by_role("navigation", name="Topics")
    tree.get_by_role("button", name=f"Open {HOSTILE_SHOWN}").click()
    tree.get_by_role("button", name="value", exact=True).click()
    page.get_by_role("heading", name=f"odd/{HOSTILE_SHOWN}/value").wait_for()
    tree.get_by_role("button", name="(65,005 characters)").click()
    expect(page.get_by_label("Payload")).to_contain_text("long-xxx")
    assert page.locator("main img").count() == 0


def test_a_retained_message_is_deleted(stage: Stage, watched: Watched) -> None:
    page = watched.page
    with connected(stage.nodes[1].port, "keeper") as client:
        client.publish("spare/one", b"x", 1, retain=True)
        page.goto(f"{stage.url()}#/topics/spare%2Fone")
        page.get_by_role("button", name="Delete…").click()
        dialog = page.get_by_role("dialog", name="Delete this retained message?")
        dialog.get_by_role("button", name="Delete").click()
        page.get_by_text("Deleted.").first.wait_for()
        client.subscribe("spare/+", qos=1)
        client.ping()
        client.assert_silence()


def test_settings_in_force(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/settings")
    page.get_by_label("only those that are not the default").check()
    row = page.get_by_role("row", name="queue_limit")
    expect(row).to_contain_text(str(QUEUE_LIMIT))
    expect(row).to_contain_text("set")
    expect(page.get_by_role("row", name="keep_alive")).to_have_count(0)


def test_settings_are_read_again(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/settings")
    page.get_by_role("button", name="Read settings again").click()
    page.get_by_role("heading", name="What was read").wait_for()
    for node in ("node-1", "node-2"):
        expect(page.locator("main section.card")).to_contain_text(node)
