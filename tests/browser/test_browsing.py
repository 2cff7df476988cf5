"""Pages about clients and what waits for them, against two nodes that have some."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Watched
from tests.browser.stage import HOSTILE, HOSTILE_SHOWN, LONG, QUEUE_LIMIT, QUEUED, STAGE_SECONDS, Stage
from tests.node.wire import HOUR, connected

pytestmark = pytest.mark.timeout(STAGE_SECONDS)


def test_clients_of_both_nodes(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/clients")
    expect(page.get_by_role("row", name="pump-1")).to_contain_text("node-1")
    expect(page.get_by_role("row", name="monitor")).to_contain_text("node-2")
    page.get_by_role("searchbox", name="Text").fill("pump")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="monitor")).to_have_count(0)
    expect(page.get_by_role("row", name="pump-1")).to_have_count(1)
    expect(page.get_by_role("searchbox", name="Text")).to_be_focused()
    page.get_by_label("Search by").select_option("address")
    page.get_by_role("searchbox", name="Text").fill("127.0.0.1")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row", name="monitor")).to_have_count(1)


def test_a_client_is_disconnected(stage: Stage, watched: Watched) -> None:
    """After a look at the dialog, from the other node."""
    page = watched.page
    with connected(stage.nodes[1].port, "unwanted") as client:
        page.goto(f"{stage.url(0)}#/clients?search=unwanted")
        page.get_by_role("row", name="unwanted").get_by_role("button", name="Disconnect…").click()
        dialog = page.get_by_role("dialog", name="Disconnect this client?")
        client.ping()
        dialog.get_by_role("button", name="Disconnect").click()
        page.get_by_text("Disconnected.").wait_for()
        assert client.wait_refused() == 0x98


def test_sessions_and_their_names(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/sessions?state=away")
    row = page.get_by_role("row", name="lamp-7")
    expect(row).to_contain_text("away")
    expect(row).to_contain_text(f"{QUEUE_LIMIT}")
    expect(page.get_by_role("row", name=HOSTILE_SHOWN)).to_have_count(1)
    expect(page.get_by_role("row", name="(65,005 characters)")).to_have_count(1)
    assert page.locator("main img").count() == 0
    for client_id in (HOSTILE, LONG):
        page.goto(f"{stage.url()}#/client/{quote(client_id, safe='')}")
        page.get_by_role("heading", name="Session", exact=True).wait_for()
        expect(page.get_by_role("region", name="Queue").get_by_role("row")).to_have_count(QUEUE_LIMIT + 1)
    assert page.locator("main img").count() == 0


def test_a_client_is_explained(stage: Stage, watched: Watched) -> None:
    """Who is away with a full queue, and who is connected and does not acknowledge."""
    page = watched.page
    page.goto(f"{stage.url(1)}#/sessions?prefix=lamp")
    page.get_by_role("link", name="lamp-7").click()
    verdict = page.locator(".notice").first
    expect(verdict).to_contain_text("away since")
    expect(page.get_by_role("region", name="Dropped")).to_contain_text(f"drop oldest{QUEUED - QUEUE_LIMIT}")
    expect(page.get_by_role("region", name="Subscriptions")).to_contain_text("commands/lamp-7")
    expect(page.get_by_role("region", name="Events")).to_contain_text("connected")


def test_a_session_is_deleted(stage: Stage, watched: Watched) -> None:
    page = watched.page
    with connected(stage.nodes[0].port, "obsolete", properties=HOUR) as client:
        client.subscribe("obsolete", qos=1)
    page.goto(f"{stage.url(1)}#/sessions?prefix=obsolete")
    page.get_by_role("row", name="obsolete").get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("Deleted.").wait_for()
    page.reload()
    page.get_by_text("There is no session that this fits.").wait_for()


def test_who_gets_a_topic(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/subscriptions")
    page.get_by_role("searchbox", name="Text").fill("plant/pump-1/speed")
    page.get_by_role("button", name="Look up").click()
    row = page.get_by_role("row", name="monitor")
    expect(row).to_contain_text("plant/#")
    page.get_by_label("Look up").first.select_option("filter")
    page.get_by_role("searchbox", name="Text").fill("commands/lamp")
    page.get_by_role("button", name="Look up").click()
    page.get_by_role("row", name="lamp-7").first.wait_for()


def test_shared_groups_and_dead_letters(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/shared")
    expect(page.get_by_role("row", name="commands/lamp-7")).to_contain_text("workers")
    page.goto(f"{stage.url()}#/letters?client_id=lamp-7")
    expect(page.get_by_role("row", name="drop_oldest")).to_have_count(QUEUED - QUEUE_LIMIT)


def test_a_topic_is_explained(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/explain")
    page.get_by_label("Explain").first.select_option("topic")
    page.get_by_role("searchbox", name="Name").fill("commands/lamp-7")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("main")).to_contain_text("lamp-7")
    page.locator(".notice.good").wait_for()


def test_bans(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/bans")
    page.get_by_label("Who").fill(HOSTILE)
    page.get_by_label("Reason").fill("<b>why</b>")
    page.get_by_role("button", name="Ban", exact=True).click()
    row = page.get_by_role("row", name=HOSTILE_SHOWN)
    expect(row).to_contain_text("<b>why</b>")
    row.get_by_role("button", name="Remove…").click()
    page.get_by_role("dialog", name="Remove this ban?").get_by_role("button", name="Remove").click()
    page.get_by_text("Nobody is banned.").wait_for()


def test_alarms_and_forwards(stage: Stage, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{stage.url()}#/forwards")
    page.get_by_text("There are no forwards in the settings.").wait_for()
    page.goto(f"{stage.url()}#/alarms")
    page.locator("main .notice, main table").first.wait_for()
