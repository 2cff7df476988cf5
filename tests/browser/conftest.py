"""One Chromium, and one cluster of two nodes under light load, for all tests here."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.chromium import SECONDS, Watched, running_chromium
from tests.browser.stage import Stage, furnish, running_stage, traffic
from tests.tools import Certificate, make_certificate

expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Stage]:
    with running_stage(tmp_path_factory.mktemp("stage"), certificate) as stage, traffic(stage.nodes):
        furnish(stage.nodes[0])
        yield stage


@pytest.fixture(scope="session")
def browser(certificate: Certificate, stage: Stage) -> Iterator[Browser]:
    """After the stage: it has an event loop in this thread, and those who set the stage want one, too."""
    with running_chromium([certificate]) as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has been nowhere."""
    context = browser.new_context(ignore_https_errors=False)
    yield context
    context.close()


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Watched]:
    """A page; what it complains about fails the test."""
    watched = Watched(context.new_page())
    yield watched
    assert watched.complaints() == []
