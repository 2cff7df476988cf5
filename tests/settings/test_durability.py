"""How durability levels are written, and which mistakes are told."""

import pytest
from pydantic import ValidationError

from broker.durability import configured_levels, level_of, levels_in_use
from broker.session import level_name
from broker.settings import DurabilityRule, Settings, parse_level
from broker.settings.listener import ListenerSettings
from broker.settings.model import NodeSettings
from broker.settings.topics import TopicSettings


@pytest.mark.parametrize(
    ("text", "level", "normal"),
    [
        ("stored", (0, False), "stored"),
        ("replicated", (1, False), "replicated(1)"),
        ("replicated(3)", (3, False), "replicated(3)"),
        ("fsynced", (0, True), "fsynced"),
        ("replicated(2) + fsynced", (2, True), "fsynced+replicated(2)"),
    ],
)
def test_a_level_is_read(text: str, level: tuple[int, bool], normal: str) -> None:
    assert parse_level(text) == level
    assert NodeSettings.model_validate({"durability": text}).durability == normal
    assert level_name(level_of(text)) == normal


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "is no durability level: stored, replicated(N), fsynced or fsynced+replicated(N)"),
        ("Stored", "is no durability level"),
        ("stored+fsynced", "is no durability level"),
        ("replicated(0)", "from 1 to 10 replicas"),
        ("replicated(11)", "from 1 to 10 replicas"),
        ("replicated(-1)", "is no durability level"),
        (7, "string"),
    ],
)
def test_a_mistake_is_told(text: object, mistake: str) -> None:
    with pytest.raises(ValidationError) as failure:
        NodeSettings.model_validate({"durability": text})
    assert mistake in str(failure.value)


@pytest.mark.parametrize(
    ("filter", "mistake"),
    [
        ("a/#/b", "is not a Topic Filter"),
        ("$share/g/t", "no topic of a message begins so"),
        ("", "at least 1"),
    ],
)
def test_a_rule_has_a_filter(filter: str, mistake: str) -> None:
    with pytest.raises(ValidationError) as failure:
        DurabilityRule.model_validate({"filter": filter, "level": "fsynced"})
    assert mistake in str(failure.value)


def test_levels_that_may_meet_are_in_use_together() -> None:
    levels = [level_of(text) for text in ("fsynced", "replicated", "stored", "replicated(2)")]
    assert [level_name(level) for level in levels_in_use(levels)] == [
        "fsynced",
        "replicated(1)",
        "fsynced+replicated(1)",
        "replicated(2)",
        "fsynced+replicated(2)",
    ]
    assert levels_in_use([0, 0]) == []


def test_a_listener_may_have_a_level_of_its_own() -> None:
    listener = ListenerSettings.model_validate(
        {"address": "mqtt://127.0.0.1:1", "durability": "replicated(2)"}
    )
    other = ListenerSettings.model_validate({"address": "mqtt://127.0.0.1:2"})
    settings = Settings(
        node=NodeSettings.model_validate({"durability": "replicated", "listen": "off"}),
        listeners={"one": listener, "two": other},
        topics=TopicSettings.model_validate({"durability": [{"filter": "t", "level": "stored"}]}),
    )
    assert [level_name(level) for level in configured_levels(settings)] == ["replicated(1)", "replicated(2)"]
