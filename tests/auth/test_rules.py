"""Rules from a file: who they fit, what they decide, and that no name makes them wider."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth import ANONYMOUS, Access, Action, Decision, Identity
from broker.auth.rules import Rule, Rules, allow_rules, is_named, read_rules
from broker.mqtt import matches

ALLOW, DENY, NO_OPINION = Decision.ALLOW, Decision.DENY, Decision.NO_OPINION


def _publish(topic: str, identity: Identity = ANONYMOUS, client_id: str = "c", address: str = "") -> Access:
    return Access(identity, client_id, address, Action.PUBLISH, topic)


def _subscribe(filter: str, identity: Identity = ANONYMOUS, client_id: str = "c") -> Access:
    return Access(identity, client_id, "", Action.SUBSCRIBE, filter)


def _rules(path: Path, text: str) -> Rules:
    file = path / "rules.toml"
    file.write_text(text)
    return read_rules(file)


def test_who_a_rule_fits(tmp_path: Path) -> None:
    rules = _rules(
        tmp_path,
        """
        groups = {staff = ["ann"]}
        rules = [
            {effect = "allow", filters = ["u"], users = ["ann", "b*"]},
            {effect = "allow", filters = ["g"], groups = ["staff"]},
            {effect = "allow", filters = ["c"], clients = ["sensor-*-x"]},
            {effect = "allow", filters = ["a"], addresses = ["10.0.0.0/8", "::1"]},
            {effect = "allow", filters = ["both"], users = ["*"], groups = ["staff"]},
        ]
        """,
    )
    ann, bob, guest = Identity("ann"), Identity("bob"), Identity("guest", frozenset({"staff"}))
    for identity, topic, expected in (
        (ann, "u", ALLOW), (bob, "u", ALLOW), (guest, "u", NO_OPINION), (ANONYMOUS, "u", NO_OPINION),
        (ann, "g", ALLOW), (bob, "g", NO_OPINION), (guest, "g", ALLOW), (ANONYMOUS, "g", NO_OPINION),
        (ann, "both", ALLOW), (bob, "both", NO_OPINION), (guest, "both", ALLOW),
    ):  # fmt: skip
        assert rules.decide(_publish(topic, identity)) is expected, (identity, topic)
    for client_id, expected in (("sensor-1-x", ALLOW), ("sensor--x", ALLOW), ("sensor-x", NO_OPINION)):
        assert rules.decide(_publish("c", client_id=client_id)) is expected
    for address, expected in (
        ("10.255.0.1", ALLOW), ("::ffff:10.0.0.1", ALLOW), ("::1", ALLOW),
        ("11.0.0.1", NO_OPINION), ("", NO_OPINION),
    ):  # fmt: skip
        assert rules.decide(_publish("a", address=address)) is expected


def test_the_first_that_fits_decides(tmp_path: Path) -> None:
    rules = _rules(
        tmp_path,
        """
        rules = [
            {effect = "allow", filters = ["a/open"]},
            {effect = "deny", filters = ["a/#"], actions = ["publish"]},
            {effect = "deny", filters = ["b/+/hidden"]},
            {effect = "allow", filters = ["#"]},
        ]
        """,
    )
    for topic, expected in (("a/open", ALLOW), ("a", DENY), ("a/x", DENY), ("c", ALLOW)):
        assert rules.decide(_publish(topic)) is expected
    for filter, expected in (
        ("a/open", ALLOW), ("a/#", ALLOW), ("b/x/hidden", DENY), ("b/+/+", DENY), ("b/#", DENY),
        ("#", DENY), ("+/x/hidden", DENY),
        ("b/+", ALLOW), ("b/x/y", ALLOW), ("+/x/y", ALLOW), ("$SYS/#", NO_OPINION),
    ):  # fmt: skip
        assert rules.decide(_subscribe(filter)) is expected, filter


@pytest.mark.parametrize("name", ["+", "#", "a/b", "/", "$SYS", "", "x\0"])
def test_no_name_widens_a_rule(name: str) -> None:
    allow = allow_rules(["%u/+"], ["home/%u/#", "%u/#", "x-%c/#"])
    identity = Identity(name)
    topics = ["home/a/x", "home/a/b/x", "$SYS/x", "a/x", "a/b", "/x", "+/x", "home//x", "x-/y", "x-a/b"]
    for topic in topics:
        access = _subscribe(topic, identity, client_id=name)
        assert allow.decide(access) is NO_OPINION or topic.startswith("x-$SYS")
        assert allow.decide(_publish(topic, identity, client_id=name)) is NO_OPINION
    deny = Rules(
        (Rule(effect="deny", filters=("home/%u/x", "in/a%cb")), *allow_rules(["#"], ["#"]).rules), {}
    )
    for topic in ("home/x", "home/any/x", "home/any/thing/x"):
        if name != "$SYS":
            assert deny.decide(_publish(topic, identity)) is DENY


def test_a_good_name_is_filled_in() -> None:
    rules = allow_rules(["%u/%c/x%u"], [])
    assert rules.decide(_publish("ann/c1/xann", Identity("ann"), "c1")) is ALLOW
    assert rules.decide(_publish("ann/c1/xbob", Identity("ann"), "c1")) is NO_OPINION
    assert rules.decide(_publish("$x/c1/x$x", Identity("$x"), "c1")) is NO_OPINION


def test_where_a_rule_holds(tmp_path: Path) -> None:
    rules = _rules(
        tmp_path,
        """
        rules = [
            {effect = "deny", filters = ["#"], listeners = ["out-*", "listen"]},
            {effect = "allow", filters = ["#"]},
        ]
        """,
    )
    for listener, expected in (("out-1", DENY), ("listen", DENY), ("inside", ALLOW), ("", ALLOW)):
        assert rules.decide(replace(_publish("x"), listener=listener)) is expected
        assert rules.decide(replace(_subscribe("x/#"), listener=listener)) is expected


def test_the_common_name_is_filled_in() -> None:
    """It has nothing to do with the Client Identifier; without one no rule allows, and all is denied that
    could be meant."""
    rules = allow_rules(["of/%cn/%c/%u"], [])
    ann = Identity("ann")
    access = replace(_publish("of/pump/c1/ann", ann, "c1"), common_name="pump")
    assert rules.decide(access) is ALLOW
    assert rules.decide(replace(access, topic="of/c1n/c1/ann")) is NO_OPINION
    assert rules.decide(replace(access, common_name="valve")) is NO_OPINION
    deny = Rules((Rule(effect="deny", filters=("of/x%cn",)), *allow_rules(["#"], []).rules), {})
    for name in (None, "", "a/b", "+", "#", "x\0"):
        topic = f"of/{name}/c1/ann"
        assert rules.decide(replace(access, topic=topic, common_name=name)) is NO_OPINION
        assert deny.decide(replace(access, topic="of/any/thing", common_name=name)) is DENY


NAMES = ("a", "b", "$s", "z")  # the last one in no filter
TOPICS = ["/".join(names) for depth in (1, 2, 3, 4) for names in product(NAMES, repeat=depth)]
FILTERS = ["#", "+", "a/#", "a/+", "+/b", "+/+", "a/b", "b", "$s/#", "a/+/b", "+/b/#", "$s", "+/a/+"]


@given(
    st.sampled_from(FILTERS),
    st.lists(st.tuples(st.sampled_from(["allow", "deny"]), st.sampled_from(FILTERS)), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_a_subscription_is_allowed_only_if_each_topic_is(filter: str, listed: list[tuple[str, str]]) -> None:
    """By force: a client with the subscription gets nothing that it could not get topic by topic."""
    rules = Rules([Rule.model_validate({"effect": effect, "filters": [each]}) for effect, each in listed], {})
    each_topic = {rules.decide(_publish(topic)) for topic in TOPICS if matches(filter, topic)}
    expected = next(each for each in (DENY, NO_OPINION, ALLOW) if each in each_topic)
    assert rules.decide(_subscribe(filter)) is expected


def test_long_names_cost_nothing() -> None:
    assert not is_named("a" * 60_000, ("*a*a*a*a*b",))
    assert is_named("xaxbx", ("*a*b*",))
    assert not is_named("ab", ("a",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rules = [", "rules.toml: "),
        ("", "rules: Field required"),
        ("rules = [{effect = 'allow'}]", "rules.0.filters: Field required"),
        ("rules = [{effect = 'maybe', filters = ['a']}]", "rules.0.effect: "),
        ("rules = [{effect = 'deny', filters = ['a#']}]", "rules.0.filters.0: 'a#' is not a Topic Filter"),
        ("rules = [{effect = 'deny', filters = ['$share/g/a']}]", "name the filter that comes after"),
        ("rules = [{effect = 'deny', filters = ['a'], users = []}]", "rules.0.users: "),
        ("rules = [{effect = 'deny', filters = ['a'], user = ['x']}]", "rules.0.user: "),
        ("rules = [{effect = 'deny', filters = ['a'], addresses = ['10.0.0.1/8']}]", "rules.0.addresses.0"),
        ("rules = [{effect = 'deny', filters = ['a'], actions = ['read']}]", "rules.0.actions.0"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"rules\.toml") as caught:
        _rules(tmp_path, text)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_rules(tmp_path / "nothing")
