"""Nothing here runs where no container can be started."""

import pytest

from tests.containers.podman import require_containers


@pytest.fixture(scope="session", autouse=True)
def _containers() -> None:
    require_containers()
