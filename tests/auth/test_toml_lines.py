"""Which line a mistake in a file of rules is in."""

import pytest

from broker.auth.rules import parse_rules

GOOD = "effect = 'allow'\nfilters = ['a']\n"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("nonsense", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("x = 1\nrules = []", "line 1: x: Extra inputs are not permitted"),
        ("\n[x]\nrules = []", "rules: Field required\nline 2: x: Extra inputs are not permitted"),
        ("", "rules: Field required"),
        (f"[[rules]]\n{GOOD}[[ rules ]] # two\n{GOOD}users = []", "line 7: rules.1.users: "),
        (f"[groups]\nrules = []\na = 1\n[[rules]]\n{GOOD}", "line 3: groups.a: "),
        (f"[[rules]]\n{GOOD}\n[[rules]]\nfilters = ['b']", "line 5: rules.1.effect: Field required"),
        ("rules = [{effect = 'perhaps', filters = ['a']}]", "line 1: rules.0.effect: "),
        (f"[[rules]]\n{GOOD}'users' = ['a']\n\"clients\" = 1", "line 5: rules.0.clients: "),
        ("x = " + "[" * 5000, "too many brackets"),
    ],
)
def test_mistakes(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        parse_rules(text)
    assert str(raised.value).startswith(mistake)


def test_rules_of_two_texts_have_groups_of_their_own() -> None:
    from broker.auth import Access, Action, Decision, Identity
    from broker.auth.rules import Rules

    first = parse_rules(
        "[groups]\na = ['ann']\n[[rules]]\neffect = 'deny'\ngroups = ['b']\nfilters = ['x/#']\n"
        "[[rules]]\neffect = 'allow'\ngroups = ['a']\nfilters = ['x/y']"
    )
    second = parse_rules(
        "[groups]\na = ['bob']\nb = ['ann']\n[[rules]]\neffect = 'allow'\ngroups = ['b']\n"
        "filters = ['x/+', 'z']"
    )
    both = Rules(first.rules, first.groups, second)

    def decide(user: str, topic: str, action: Action = Action.PUBLISH) -> Decision:
        return both.decide(Access(Identity(user), "c", "", action, topic))

    assert decide("ann", "z") is Decision.ALLOW
    assert decide("bob", "z") is Decision.NO_OPINION
    assert decide("bob", "x/y") is Decision.NO_OPINION
    assert decide("ann", "x/+", Action.SUBSCRIBE) is Decision.ALLOW  # by both together
    assert decide("ann", "x/#", Action.SUBSCRIBE) is Decision.NO_OPINION
