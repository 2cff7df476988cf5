"""Rules and subscriptions in the settings: what is wrong with one is told at the start."""

import pytest
from pydantic import ValidationError

from broker.errors import SettingsError
from broker.settings import AutoSubscription, RewriteRule, dump, load, restore

RULES = [{"action": "publish", "pattern": "a/(.*)", "target": "b/$1"}]
FILTERS = [{"filter": "for/%c/+/#", "qos": 2}]


def test_they_come_from_a_variable_or_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_TOPICS__REWRITE", '[{"pattern": "a/(.*)", "target": "b/$1"}]')
    settings = load({"topics": {"auto_subscribe": FILTERS}})
    assert settings.topics.rewrite == (RewriteRule(pattern="a/(.*)", target="b/$1"),)
    assert settings.topics.auto_subscribe == (AutoSubscription(filter="for/%c/+/#", qos=2),)
    assert restore(dump(settings)).topics == settings.topics


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"pattern": "(", "target": "x"}, "pattern: not a regular expression"),
        ({"pattern": "(a)", "target": "$2"}, "target: $2, but the pattern has 1 groups"),
        ({"pattern": "(a)", "target": "$0"}, "target: $0"),
        ({"pattern": "a", "target": "b/+"}, "no message can be published"),
        ({"pattern": "a", "target": "$SYS/x"}, "no message can be published"),
        ({"pattern": "a", "target": "b\0"}, "NUL"),
        ({"pattern": "a", "target": "b", "action": "drop"}, "action: "),
        ({"pattern": "a"}, "target: Field required"),
    ],
)
def test_a_bad_rule_is_a_mistake(rule: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"topics": {"rewrite": [*RULES, rule]}})
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("topics.rewrite (flag --rewrite): 1: ")
    assert problem in mistake


@pytest.mark.parametrize("filter", ["a/#/b", "a+", "#a", "a/b#", "", "a\0"])
def test_a_bad_filter_is_a_mistake(filter: str) -> None:
    with pytest.raises(ValidationError):
        AutoSubscription(filter=filter)


@pytest.mark.parametrize("filter", ["#", "+", "a", "/", "+/+/#", "a//b", "$share/g/a/#"])
def test_filters(filter: str) -> None:
    assert AutoSubscription(filter=filter).filter == filter


def test_a_shared_subscription_is_never_local() -> None:
    with pytest.raises(ValidationError):
        AutoSubscription(filter="$share/g/a", no_local=True)
