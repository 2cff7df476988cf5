"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest

from tests.node.template import Template

# Tests see the sources, even if somebody compiled in place; `make test-compiled` says otherwise.
os.environ.setdefault("MOORLINE_PURE", "1")


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """From which nodes are forked, where a module's `starts` says so."""
    template = Template()
    yield template
    template.close()
