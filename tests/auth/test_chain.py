"""Who decides, in which order, and what happens when somebody does not."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import anyio
import pytest

from broker.auth import (
    ANONYMOUS,
    Access,
    Action,
    AuthenticatorChain,
    Authorization,
    Credentials,
    Decision,
    Denied,
    Identity,
    Link,
    PeerCertificate,
    Rights,
    Unavailable,
    Verdict,
)
from broker.auth.cache import VerdictCache
from broker.auth.gate import Busy
from broker.auth.rules import Rule, Rules, allow_rules
from broker.auth.scram import ScramSha256
from broker.mqtt import ReasonCode

ANN, BOB = Identity("ann"), Identity("bob")
NAMED = Credentials("c", "ann", b"secret", "127.0.0.1", "tcp")
NAMELESS = Credentials("c", None, None, "127.0.0.1", "tcp")


class _Asked:
    """Answers what it was told to: an exception is raised, "slow" takes too long."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.count = 0

    async def _answer(self) -> object:
        self.count += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "slow":
            await anyio.sleep_forever()
        return self.answer

    async def authenticate(self, credentials: Credentials) -> Verdict:
        answer = await self._answer()
        assert answer is None or isinstance(answer, Identity | Denied)
        return answer

    async def authorize(self, access: Access) -> Decision:
        answer = await self._answer()
        assert isinstance(answer, Decision)
        return answer


def _authenticate(
    *answers: object, credentials: Credentials = NAMED, skips: bool = False, anonymous: bool = False
) -> Identity | Denied:
    chain = AuthenticatorChain(
        [Link(str(number), _Asked(answer)) for number, answer in enumerate(answers)],
        timeout_seconds=0.05,
        skips_failures=skips,
        allows_anonymous=anonymous,
    )
    return asyncio.run(chain.authenticate(credentials))


def test_the_first_opinion_counts() -> None:
    assert _authenticate(None, ANN, Denied()) is ANN
    assert _authenticate(None, Denied(ReasonCode.BANNED), ANN) == Denied(ReasonCode.BANNED)


def test_nobody_has_an_opinion() -> None:
    assert _authenticate(None) == Denied()
    assert _authenticate(None, anonymous=True) == Denied()  # it says who it is: that has to be true
    assert _authenticate(None, credentials=NAMELESS) == Denied(ReasonCode.NOT_AUTHORIZED)
    assert _authenticate(None, credentials=NAMELESS, anonymous=True) is ANONYMOUS


def test_one_that_can_not_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    """It has been told where that was noticed. Who is busy does not become one without an opinion."""
    assert _authenticate(Unavailable("down"), ANN) == Denied(ReasonCode.SERVER_UNAVAILABLE)
    assert _authenticate(Unavailable("down"), ANN, skips=True) is ANN
    assert _authenticate(Busy(), ANN) == Denied(ReasonCode.SERVER_BUSY)
    assert _authenticate(Busy(), ANN, skips=True) == Denied(ReasonCode.SERVER_BUSY)
    assert not caplog.records


@pytest.mark.parametrize("failure", ["slow", RuntimeError("of a plug-in")])
def test_one_that_fails(failure: object, caplog: pytest.LogCaptureFixture) -> None:
    assert _authenticate(failure, ANN) == Denied(ReasonCode.SERVER_UNAVAILABLE)
    assert _authenticate(failure, ANN, skips=True) is ANN
    assert _authenticate(failure, skips=True) == Denied()
    assert "secret" not in caplog.text
    assert caplog.text.count("authenticator ") >= 3


def test_what_was_answered_is_remembered() -> None:
    async def run() -> None:
        asked = _Asked(ANN)
        link = Link("x", asked, VerdictCache(60, 10))
        chain = AuthenticatorChain([link], timeout_seconds=1, skips_failures=False, allows_anonymous=False)
        for _ in range(3):
            assert await chain.authenticate(NAMED) is ANN
        assert asked.count == 1
        other = Credentials("c2", "ann", b"secret", "127.0.0.1", "tcp")
        await chain.authenticate(other)
        assert asked.count == 2
        third = Credentials("c3", "ann", b"secret", "127.0.0.1", "tcp")
        asked.answer = RuntimeError("no answer")  # which is not remembered
        for _ in range(2):
            assert await chain.authenticate(third) == Denied(ReasonCode.SERVER_UNAVAILABLE)
        asked.answer = Busy()  # nor is that
        for _ in range(2):
            assert await chain.authenticate(third) == Denied(ReasonCode.SERVER_BUSY)
        assert asked.count == 6

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


def test_a_certificate_is_one_of_the_facts_that_are_remembered() -> None:
    async def run() -> None:
        asked = _Asked(ANN)
        link = Link("x", asked, VerdictCache(60, 10))
        chain = AuthenticatorChain([link], timeout_seconds=1, skips_failures=False, allows_anonymous=False)
        for serial_number in ("1", "1", "2"):
            certificate = PeerCertificate("CN=ann", "CN=ca", serial_number, 0.0, "ann")
            await chain.authenticate(replace(NAMELESS, certificate=certificate))
        assert asked.count == 2

    asyncio.run(run())


def test_methods_of_a_listener() -> None:
    """With some of them, who names none is asked, too; with none, there is nobody to ask."""
    method, own = ScramSha256([], bytes, 4096), ScramSha256([], bytes, 4096)
    for methods, is_asked, takes in ((None, False, True), ({"A"}, True, True), (set(), False, False)):
        chain = AuthenticatorChain(
            [],
            timeout_seconds=1,
            skips_failures=False,
            allows_anonymous=False,
            methods=None if methods is None else frozenset(methods),
        )
        assert chain.is_asked == is_asked
        assert (chain.method("A", {"A": method}) is method) == takes
        assert chain.method("B", {}) is None
        assert isinstance(asyncio.run(chain.authenticate(NAMELESS)), Denied)
    chain = AuthenticatorChain(
        [], timeout_seconds=1, skips_failures=False, allows_anonymous=False, own_methods={"A": own}
    )
    assert chain.method("A", {"A": method}) is own


def test_a_password_is_in_no_representation() -> None:
    assert "secret" not in repr(NAMED)


# What they may do


def _authorization(
    rules: Rules | None = None, *plugins: _Asked, unmatched: bool = False, skips: bool = False, kept: int = 3
) -> Authorization:
    named: Mapping[str, _Asked] = {str(number): plugin for number, plugin in enumerate(plugins)}
    return Authorization(rules, list(named.items()), unmatched, 0.05, skips, 60, kept)


def _rights(authorization: Authorization, identity: Identity = ANN) -> Rights:
    return Rights(authorization, identity, "c", "127.0.0.1")


def _publish(rights: Rights, topic: str) -> bool | None:
    return rights.decide_now(rights.access(Action.PUBLISH, topic, 0, False))


def _subscribe(rights: Rights, filter: str) -> bool | None:
    return rights.decide_now(rights.access(Action.SUBSCRIBE, filter, 0, False))


def test_without_anybody_to_ask_all_but_sys_is_allowed() -> None:
    rights = _rights(_authorization())
    assert not rights.governs_publishing
    assert _subscribe(rights, "#")
    assert not _subscribe(rights, "$SYS/#")
    assert not _subscribe(rights, "$SYS/x/+")


def test_rules_of_the_node_come_before_those_of_the_client() -> None:
    file = Rules([Rule(effect="deny", filters=("a/secret",))], {})
    rights = _rights(_authorization(file), Identity("ann", rules=allow_rules(["a/#"], [])))
    assert _publish(rights, "a/x") is True
    assert _publish(rights, "a/secret") is False
    assert _publish(rights, "b") is False


def test_unmatched() -> None:
    rights = _rights(_authorization(Rules([], {}), unmatched=True))
    assert _publish(rights, "a")
    assert _subscribe(rights, "#")
    assert not _subscribe(rights, "$SYS/#")
    assert not _publish(_rights(_authorization(Rules([], {}))), "a")


def test_decisions_are_remembered_and_bounded() -> None:
    rights = _rights(_authorization(allow_rules(["a/+"], [])))
    for number in range(10):
        assert _publish(rights, f"a/{number}")
        assert not _publish(rights, f"b/{number}")
        assert f"a/{number}" in rights.allowed
        assert len(rights.allowed) <= 3
    rights.forget()
    assert not rights.allowed


def test_rules_can_be_replaced() -> None:
    authorization = _authorization(allow_rules(["a"], []))
    rights = _rights(authorization)
    assert _publish(rights, "a")
    before = rights.revision
    authorization.replace_rules(allow_rules(["b"], []))
    rights.forget()
    assert rights.revision != before
    assert not _publish(rights, "a")
    assert _publish(rights, "b")


def test_plugins_are_waited_for() -> None:
    async def run() -> None:
        first, second = _Asked(Decision.NO_OPINION), _Asked(Decision.ALLOW)
        rights = _rights(_authorization(allow_rules(["a"], []), first, second))
        assert _publish(rights, "a") is True
        assert first.count == 0
        access = rights.access(Action.PUBLISH, "b", 0, False)
        assert rights.decide_now(access) is None
        assert await rights.decide(access)
        assert rights.decide_now(access) is True
        assert rights.decide_now(rights.access(Action.PUBLISH, "b", 1, False)) is None  # it may look at QoS
        assert "b" not in rights.allowed  # which the hot path doesn't
        assert (first.count, second.count) == (1, 1)
        rights.forget()
        assert rights.decide_now(access) is None

    asyncio.run(run())


def test_rules_that_change_while_a_plugin_is_asked() -> None:
    async def run() -> None:
        authorization = _authorization(None)

        class Revising:
            async def authorize(self, access: Access) -> Decision:
                authorization.replace_rules(Rules([Rule(effect="deny", filters=("a",))], {}))
                return Decision.ALLOW

        authorization.plugins = [("x", Revising())]
        rights = _rights(authorization)
        assert not await rights.decide(rights.access(Action.PUBLISH, "a", 0, False))

    asyncio.run(run())


@pytest.mark.parametrize("failure", ["slow", RuntimeError("of a plug-in"), Unavailable("down"), Busy()])
def test_a_plugin_that_fails(failure: object) -> None:
    async def run() -> None:
        for skips in (False, True):
            asked = _authorization(None, _Asked(failure), _Asked(Decision.ALLOW), skips=skips)
            rights = _rights(asked)
            access = rights.access(Action.PUBLISH, "a", 0, False)
            assert await rights.decide(access) is skips
            assert rights.decide_now(access) is None  # what is no answer is not remembered

    asyncio.run(run())
