"""What a client may do, as others say it."""

from dataclasses import replace

import pytest

from broker.auth import Access, Action, Decision, Identity
from broker.auth.acl import EVERYTHING, are_texts, rules_of
from broker.auth.rules import Rules


def _decide(rules: Rules, action: Action, topic: str, client_id: str = "c1") -> Decision:
    return rules.decide(Access(Identity("ann"), client_id, "", action, topic))


def _entry(**fields: object) -> dict[str, object]:
    return {"permission": "allow", "action": "all", "topic": "a"} | fields


def test_entries_count_in_order() -> None:
    rules = rules_of(
        [
            _entry(topic="a/b"),
            _entry(permission="deny", topic="a/#"),
            _entry(topic="#", action="subscribe", qos=None),
        ]
    )
    for action, topic, expected in (
        (Action.PUBLISH, "a/b", Decision.ALLOW),
        (Action.PUBLISH, "a/c", Decision.DENY),
        (Action.PUBLISH, "b", Decision.NO_OPINION),
        (Action.SUBSCRIBE, "b", Decision.ALLOW),
        (Action.SUBSCRIBE, "#", Decision.DENY),
    ):
        assert _decide(rules, action, topic) is expected, topic


def test_names_are_filled_in_and_do_not_widen() -> None:
    rules = rules_of([_entry(topic="${username}/%c/x")])
    assert _decide(rules, Action.PUBLISH, "ann/c1/x") is Decision.ALLOW
    assert _decide(rules, Action.SUBSCRIBE, "ann/+/x", "+") is Decision.NO_OPINION


def test_the_name_in_a_certificate() -> None:
    rules = rules_of([_entry(topic="a/${cert_common_name}/x")])
    access = Access(Identity("ann"), "c1", "", Action.PUBLISH, "a/pump/x", common_name="pump")
    assert rules.decide(access) is Decision.ALLOW
    assert rules.decide(replace(access, common_name=None)) is Decision.NO_OPINION


def test_no_entries_allow_nothing() -> None:
    assert _decide(rules_of([]), Action.PUBLISH, "a") is Decision.NO_OPINION
    assert _decide(rules_of({}), Action.PUBLISH, "a") is Decision.NO_OPINION


def test_everything() -> None:
    assert _decide(EVERYTHING, Action.SUBSCRIBE, "#") is Decision.ALLOW
    assert _decide(EVERYTHING, Action.SUBSCRIBE, "$SYS/#") is Decision.ALLOW


@pytest.mark.parametrize(
    "acl",
    [
        None,
        "#",
        5,
        ["#"],
        [_entry(permission=True)],
        [_entry(permission="ALLOW")],
        [_entry(action=["publish"])],
        [_entry(action="write")],
        [{"permission": "allow", "action": "all"}],
        [_entry(topic=5)],
        [_entry(topic="")],
        [_entry(topic="a#")],
        [_entry(topic="a/\ud800")],
        [_entry(topic="eq a/#")],
        [_entry(topic="a/${peerhost}")],
        [_entry(topic="a/${clientid")],
        [_entry(topic="a/${clientid}news")],
        [_entry(topic="$share/g/a")],
        [_entry(qos=[0])],
        [_entry(qos=[0, 1, 2, 0])],
        [_entry(retain=True)],
        [_entry(clientid_re="^x")],
        [_entry()] * 1001,
        {"publish": "#"},
        {"publish": ["#"], "all": ["#"]},
        {"subscribe": ["a#"]},
    ],
)
def test_what_is_not_understood_is_a_mistake(acl: object) -> None:
    with pytest.raises(ValueError, match="acl"):
        rules_of(acl)


def test_texts() -> None:
    assert are_texts(["a"])
    assert not any(are_texts(values) for values in ("a", ["a", 5], ["\udfff"], None))
