"""Pages made from the program are those of this program."""

from broker.settings import setting_names
from docs import api_page, metrics_page
from docs.generate import PAGE, configuration_page


def test_the_configuration_page_is_current() -> None:
    assert PAGE.read_text() == configuration_page(), "run `make docs`"


def test_the_page_of_the_api_is_current() -> None:
    assert api_page.PAGE.read_text() == api_page.api_page(), "run `make docs`"


def test_every_setting_is_on_the_page_with_a_description() -> None:
    page = configuration_page()
    for setting in setting_names():
        assert f"\n### {setting}\n" in page
    assert "\nNone\n" not in page


def test_the_page_of_metrics_is_current() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.metrics_page(), "run `make docs`"
