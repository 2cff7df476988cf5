"""Who may come in, and what each role is shown; on two nodes that ask for tokens."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from broker.auth.admin_tokens import Role, make_token
from tests.browser.chromium import Watched
from tests.browser.stage import STAGE_SECONDS, Stage, member
from tests.node.harness import NodeProcess
from tests.tools import Certificate

pytestmark = pytest.mark.timeout(STAGE_SECONDS)


class Guarded:
    """Nodes with tokens, and the file that these are in."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "tokens"
        self.texts: dict[Role, str] = {}
        self.nodes: list[NodeProcess] = []
        lines = []
        for role in Role:
            self.texts[role], token = make_token(f"on-call-{role}", role)
            lines.append(token.to_line())
        self.file.write_text("".join(lines))

    def url(self, place: int = 0) -> str:
        """Of a dashboard."""
        return f"http://127.0.0.1:{self.nodes[place].admin_port}/"

    def log_in(self, page: Page, role: Role, url: str = "") -> None:
        """By the form."""
        page.goto(url or self.url())
        page.get_by_label("Token").fill(self.texts[role])
        page.keyboard.press("Enter")
        page.get_by_text(f"on-call-{role} ({role})").wait_for()


@pytest.fixture(scope="module")
def guarded(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A cluster of its own, by its prefix."""
    directory = tmp_path_factory.mktemp("guarded")
    guarded = Guarded(directory)
    environment = {"MOORLINE_ADMIN__TOKENS_FILE": str(guarded.file), "MOORLINE_REDIS__PREFIX": "guarded:"}
    with ExitStack() as stack:
        for name in ("a", "b"):
            node = stack.enter_context(member(directory, stage.redis, name, environment))
            guarded.nodes.append(node)
        yield guarded


def test_log_in_and_out(guarded: Guarded, watched: Watched) -> None:
    page = watched.page
    watched.expected += ["status of 401"]
    page.goto(guarded.url())
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.locator("nav a").count() == 0
    page.keyboard.type("moorline_guess")
    page.keyboard.press("Enter")
    page.get_by_text("There is no such token.").wait_for()
    guarded.log_in(page, Role.READ)
    page.get_by_text("Redis memory").wait_for()
    page.goto(guarded.url(1))  # the cookie counts there, too
    page.get_by_text("Redis memory").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Token").wait_for()
    page.reload()
    page.get_by_label("Token").wait_for()


def test_the_cookie_is_out_of_reach(guarded: Guarded, context: BrowserContext, watched: Watched) -> None:
    guarded.log_in(watched.page, Role.ADMIN)
    (cookie,) = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("moorline", True, "Strict")
    assert guarded.texts[Role.ADMIN] not in cookie["value"]
    assert watched.page.evaluate("document.cookie") == ""
    assert watched.page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


@pytest.mark.parametrize(
    ("role", "drains", "bans"),
    [(Role.READ, False, False), (Role.OPERATE, True, True), (Role.ADMIN, True, True)],
)
def test_a_role_is_shown_what_it_may_do(
    guarded: Guarded, watched: Watched, role: Role, drains: bool, bans: bool
) -> None:
    page = watched.page
    watched.expected += ["status of 403"]
    guarded.log_in(page, role)
    page.get_by_role("link", name="Nodes", exact=True).click()
    page.get_by_role("columnheader", name="Listeners").wait_for()
    assert (page.get_by_role("button", name="Drain node a").count() > 0) == drains
    assert (page.get_by_role("button", name="Rebalance").count() > 0) == drains
    page.get_by_role("link", name="Bans").click()
    page.get_by_role("heading", name="Bans").wait_for()
    assert (page.get_by_role("button", name="Ban", exact=True).count() > 0) == bans


def test_by_https(
    stage: Stage, certificate: Certificate, tmp_path: Path, context: BrowserContext, watched: Watched
) -> None:
    guarded = Guarded(tmp_path)
    environment = {
        "MOORLINE_ADMIN__TOKENS_FILE": str(guarded.file),
        "MOORLINE_ADMIN__CERTIFICATE": str(certificate.file),
        "MOORLINE_ADMIN__KEY": str(certificate.key),
        "MOORLINE_REDIS__PREFIX": "https:",
    }
    with member(tmp_path, stage.redis, "safe", environment) as node:
        guarded.nodes.append(node)
        guarded.log_in(watched.page, Role.READ, f"https://localhost:{node.admin_port}/")
        watched.page.get_by_text("Redis memory").wait_for()
        (cookie,) = context.cookies()
        assert (cookie["name"], cookie["secure"]) == ("__Host-moorline", True)


def test_other_pages_can_not_use_it(stage: Stage, guarded: Guarded, watched: Watched) -> None:
    """One of another port on this machine: the same site, so the cookie goes along; but neither with what
    has to be asked for first, nor does the answer come back."""
    page = watched.page
    watched.expected += ["CORS", "net::ERR_FAILED", "NotSameOrigin"]
    guarded.log_in(page, Role.ADMIN)
    page.goto(f"http://127.0.0.1:{stage.site}/")
    outcome = page.evaluate(
        """async (url) => {
          const tell = async (options) => {
            const request = { method: "POST", body: "{}", credentials: "include", ...options };
            return fetch(`${url}api/v1/drain`, request)
              .then((answer) => answer.status, (error) => error.name);
          };
          const json = { "Content-Type": "application/json" };
          return [
            await tell({ mode: "no-cors" }),
            await tell({ headers: json }),
            await tell({ headers: { ...json, "X-Moorline-Page": "1" } }),
          ];
        }""",
        guarded.url(1),
    )
    assert outcome == ["TypeError", "TypeError", "TypeError"]
    assert guarded.nodes[1].get("/readyz").status == 200, "it does not drain"
    denied = [event for event in guarded.nodes[1].events("denied") if event["action"] == "POST /api/v1/drain"]
    assert [event.get("token_name") for event in denied] == ["on-call-admin"], "the cookie came along"


def test_a_session_ends_with_its_token(guarded: Guarded, watched: Watched) -> None:
    page = watched.page
    watched.expected += ["status of 401"]
    guarded.log_in(page, Role.OPERATE)
    lines = guarded.file.read_text().splitlines(keepends=True)
    guarded.file.write_text("".join(line for line in lines if "on-call-operate" not in line))
    try:
        page.get_by_label("Token").wait_for()
    finally:
        guarded.file.write_text("".join(lines))
