"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.node.harness import NodeProcess
from tests.node.template import Template

# Tests see the sources, even if somebody compiled in place; `make test-compiled` says otherwise.
os.environ.setdefault("MOORLINE_PURE", "1")

# A machine that is busy, or has hiccups, is no failure; with CI set hypothesis does this by itself.
settings.register_profile(
    "moorline", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("moorline")


@pytest.fixture(scope="session", autouse=True)
def template() -> Iterator[Template]:
    """From which nodes are forked, which is quick; a test about starting says `starter=execute`."""
    template = Template()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NodeProcess, "starter", template.fork)
        yield template
    template.close()
