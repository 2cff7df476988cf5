"""How long and how deep a topic may be."""

from broker.client.topic_limits import TopicLimits


def test_bytes_not_characters() -> None:
    limits = TopicLimits(0, 10)
    assert not limits.is_beyond("é" * 5)
    assert limits.is_beyond("é" * 5 + "x")
    assert limits.is_beyond("x" * 11)
    assert not limits.is_beyond("/" * 10)


def test_levels() -> None:
    limits = TopicLimits(3, 0)
    assert not limits.is_beyond("a/b/c" * 1)
    assert limits.is_beyond("a/b/c/")
    assert not limits.is_too_long("x" * 70_000)


def test_what_is_known_is_bounded() -> None:
    limits = TopicLimits(3, 0)
    for number in range(65_537):
        limits.remember(str(number))
    assert limits.known == {"65536"}
