"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.node.template import Template

# Tests see the sources, even if somebody compiled in place; `make test-compiled` says otherwise.
os.environ.setdefault("MOORLINE_PURE", "1")

# A machine that is busy, or has hiccups, is no failure; with CI set hypothesis does this by itself.
settings.register_profile(
    "moorline", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("moorline")


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """From which nodes are forked, where a module's `starts` says so."""
    template = Template()
    yield template
    template.close()
