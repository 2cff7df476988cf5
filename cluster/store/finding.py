"""How the primary is found, by what the URL says."""

from cluster.store.endpoint import Endpoint
from cluster.store.finder import Finder, Fixed
from cluster.store.sentinel import SentinelFinder


def finder_of(place: Endpoint) -> Finder:
    """For the place that a URL names."""
    return SentinelFinder(place) if place.sentinels else Fixed(place)
