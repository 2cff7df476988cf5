"""Every rule of the packets without a fast way, by vectors."""

from collections.abc import Callable

import pytest

from tests.mqtt.decoding import WAYS, Outcome, wanted
from tests.mqtt.vectors import ACCEPTED_OTHERS, REFUSED_OTHERS, Vector


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vector", ACCEPTED_OTHERS + REFUSED_OTHERS, ids=lambda vector: vector.name)
def test_packet(vector: Vector, way: Callable[[Vector], Outcome]) -> None:
    assert way(vector) == wanted(vector)
