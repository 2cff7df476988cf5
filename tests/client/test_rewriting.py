"""Rewrite rules: which one counts, and what stays as it is."""

import pytest

from broker.client.rewriting import Rewriting
from broker.settings import RewriteRule

RULES = Rewriting(
    [
        RewriteRule(action="publish", pattern="one/(.*)", target="first/$1"),
        RewriteRule(action="all", pattern="(one|two)/(.*)", target="second/$2/$1"),
        RewriteRule(action="subscribe", pattern="mine/(.*)", target="of/%c/%u/$1"),
        RewriteRule(action="all", pattern="first/.*", target="never"),
        RewriteRule(action="all", pattern="gone/(.*)", target="$1"),
        RewriteRule(action="all", pattern="odd(/x)?", target="$1y"),
    ]
)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("one/a", "first/a"),  # the first rule, and no other after it
        ("two/a", "second/a/two"),
        ("mine/a", "mine/a"),
        ("three/one/a", "three/one/a"),  # all of the topic has to match
        ("gone/", "gone/"),  # nothing would be left
        ("gone/a", "a"),
        ("odd", "y"),
        ("$SYS/one/a", "$SYS/one/a"),
        ("$delayed/5/one/a", "$delayed/5/first/a"),
        ("$other/one/a", "$other/one/a"),
    ],
)
def test_topics(topic: str, expected: str) -> None:
    assert RULES.topic(topic, "id", "user") == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("one/#", "one/#"),  # "#" would not be last
        ("one/+", "second/+/one"),
        ("mine/+/#", "of/id/user/+/#"),
        ("$share/g/mine/a", "$share/g/of/id/user/a"),
        ("$exclusive/mine/a", "$exclusive/of/id/user/a"),
    ],
)
def test_filters(filter: str, expected: str) -> None:
    assert RULES.filter(filter, "id", "user") == expected


@pytest.mark.parametrize(("client_id", "username"), [("", "user"), ("id", ""), ("+", "user"), ("id", "a/#")])
def test_names_that_can_not_be_filled_in(client_id: str, username: str) -> None:
    assert RULES.filter("mine/a", client_id, username) == "mine/a"


def test_names_are_not_looked_at_again() -> None:
    assert RULES.filter("mine/%u", "%u$1", "me") == "of/%u$1/me/%u"
