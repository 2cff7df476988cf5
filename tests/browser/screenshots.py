"""Pictures of the dashboard for README.md: `python -m tests.browser.screenshots`, into docs/images."""

import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import running_chromium
from tests.browser.stage import Stage, furnish, running_stage, traffic
from tests.tools import make_certificate

DIRECTORY = Path(__file__).parent.parent.parent / "docs/images"
SIZE_MAXIMUM = 150_000
_RATES_SECONDS = 75
_PICTURES = {
    "dashboard-light": ("", "light", (1200, 720)),
    "dashboard-dark": ("", "dark", (1200, 720)),
    "dashboard-explain": ("client/lamp-7", "light", (1200, 720)),
    "dashboard-phone": ("nodes", "dark", (390, 720)),
}
"""Name: page, colours, size."""


def main() -> None:
    """Sets a stage, waits until there is something to see in the charts, and looks."""
    DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        certificate = make_certificate(Path(directory))
        with running_stage(Path(directory), certificate) as stage, traffic(stage.nodes, per_second=180):
            furnish(stage.nodes[0], ["lamp-7", "lamp-8"])
            with running_chromium() as browser:
                for name in _PICTURES:
                    _take(browser, stage, name)


def _take(browser: Browser, stage: Stage, name: str) -> None:
    path, colours, (width, height) = _PICTURES[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if colours == "dark" else "light",
    )
    page = context.new_page()
    page.goto(f"{stage.url()}#/{path}")
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_timeout(1000 * (_RATES_SECONDS if path == "" else 3))
    file = DIRECTORY / f"{name}.png"
    page.screenshot(path=file)
    context.close()
    size = file.stat().st_size
    print(f"{file}: {size} bytes")
    assert size < SIZE_MAXIMUM


if __name__ == "__main__":
    main()
