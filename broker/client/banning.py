"""Who is kept out: what connections ask about the bans of the cluster, and what they tell of themselves that
leads to more of them. What takes time is done elsewhere (`broker.client.enforcing`).

Theory of operation: an address is looked at when a connection is accepted, before anything of it is read;
the Client Identifier and the user name with the CONNECT, before a password is hashed or a session claimed,
and the user name once more when it is known for sure. Guessing passwords and flapping are counted by each
node for itself; the ban that follows is the whole cluster's. A ban that came by itself keeps out, and
disconnects nobody: who is connected behind the address of somebody who guesses has done nothing.

By a user name nobody is ever banned by itself, or everybody could lock out everybody else: attempts wait.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from broker.auth.address import NETWORK_BITS, network_of, parsed_address, plain_address
from broker.auth.ban import Ban, BanKind, Target, pair_of
from broker.auth.ban_list import BanList
from broker.client.enforcing import Impose, have_banned
from broker.client.strikes import Strikes
from broker.mqtt import ReasonCode
from broker.observability.audit import record
from broker.observability.bans import BanCounters

AUTOMATIC: Final = "moorline"
"""Who has set a ban that came by itself."""

_GUESSES: Final = frozenset(
    {ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED, ReasonCode.BAD_AUTHENTICATION_METHOD}
)
_OWN_DOING: Final = (
    "client disconnected",
    "connection lost",
    "malformed_packet",
    "protocol_error",
    "keep_alive_timeout",
    "packet_too_large",
    "topic_alias_invalid",
    "receive_maximum_exceeded",
)
"""How connections end by the client's own doing."""
_LONGEST_DELAY_SECONDS: Final = 5.0
_DELAYED_MAXIMUM: Final = 1000
_SOURCES_MAXIMUM: Final = 4096
"""Addresses of which it is remembered what they are: that is looked at with each connection that ends."""
_ASKED_MAXIMUM: Final = 100

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class BanRules:
    """When somebody is banned by itself; see `broker.settings.bans`."""

    guess_limit: int
    guess_window_seconds: float
    guess_ban_seconds: float
    flap_limit: int
    flap_window_seconds: float
    flap_ban_seconds: float
    exempt: Sequence[Network] = ()


class Banning:
    """Of one node. `spawn` runs a task; `impose` is what one does for a ban that comes by itself."""

    def __init__(
        self,
        bans: BanList,
        rules: BanRules,
        counters: BanCounters,
        spawn: Callable[[Coroutine[object, object, None]], None],
        impose: Impose,
    ) -> None:
        self.bans = bans
        self.counters = counters
        counters.held = bans.counts
        self._rules = rules
        self._spawn = spawn
        self._impose = impose
        self._guesses = Strikes(rules.guess_limit, rules.guess_window_seconds)
        self._users = Strikes(rules.guess_limit, rules.guess_window_seconds)
        self._flaps = Strikes(rules.flap_limit, rules.flap_window_seconds)
        self._asked: set[Target] = set()
        self._source_of = lru_cache(_SOURCES_MAXIMUM)(self._find_source)
        self.looks_wanted = 0
        """Bans for which the clients that are connected have not been looked at."""
        self._delayed = 0

    def change(self, rules: BanRules) -> None:
        """From now on; who is banned stays so."""
        self._rules = rules
        self._source_of.cache_clear()
        for guesses in (self._guesses, self._users):
            guesses.change(rules.guess_limit, rules.guess_window_seconds)
        self._flaps.change(rules.flap_limit, rules.flap_window_seconds)

    # What connections ask

    def refuses_address(self, address: str, now_ms: int) -> bool:
        """Whether nobody from there comes in."""
        return self._counted(self.bans.find_address(address, now_ms)) is not None

    def refuses_client(self, client_id: str, username: str | None, address: str, now_ms: int) -> bool:
        """Whether a CONNECT that says so does not come in."""
        ban = self.bans.find_client(client_id, address, now_ms) or self.bans.find_user(username, now_ms)
        if self._counted(ban) is None:
            return False
        record(
            "banned",
            client_id=client_id,
            username=username,
            address=address,
            ban=ban.target.name if ban else "",
        )
        return True

    def refuses_user(self, username: str, now_ms: int) -> bool:
        """The same of the user name that a client was found to have."""
        return self._counted(self.bans.find_user(username, now_ms)) is not None

    def begin_delay(self, username: str | None, now: float) -> float:
        """How long an attempt has to wait, in seconds, as there were too many failures of this user name; if
        at all, `end_delay` is called then. 0 if too many wait already: there is no more to be had by it than
        time."""
        if username is None:
            return 0.0
        excess = self._users.excess(username, now)
        if not excess or self._delayed >= _DELAYED_MAXIMUM:
            return 0.0
        self._delayed += 1
        self.counters.delayed += 1
        return min(float(excess), _LONGEST_DELAY_SECONDS)

    def end_delay(self) -> None:
        """It has waited."""
        self._delayed -= 1

    # What they tell

    def note_failure(self, reason_code: ReasonCode, username: str | None, address: str, now: float) -> None:
        """An authentication has failed. What is not the client's fault does not count."""
        if reason_code not in _GUESSES:
            return
        if username is not None:
            self._users.note(username, now)
        source = self._source_of(address)
        if source is not None and self._guesses.note(source, now):
            self._guesses.forget(source)
            reason = f"{self._rules.guess_limit + 1} failed authentications"
            self._ban(Target(BanKind.ADDRESS, source), "guessing", reason, self._rules.guess_ban_seconds)

    def note_success(self, username: str | None) -> None:
        """Somebody was found to be who they say."""
        if username is not None:
            self._users.forget(username)

    def note_end(self, client_id: str, address: str, reason: str, now: float) -> None:
        """A connection of a client that had been let in has ended."""
        if not reason.startswith(_OWN_DOING) or self._source_of(address) is None:
            return
        target = pair_of(plain_address(address), client_id)
        if self._flaps.note(target.value, now):
            self._flaps.forget(target.value)
            text = f"{self._rules.flap_limit + 1} connections that ended"
            self._ban(target, "flapping", text, self._rules.flap_ban_seconds)

    def _counted(self, ban: Ban | None) -> Ban | None:
        if ban is not None:
            self.counters.refused[ban.target.kind.value] += 1
        return ban

    def _find_source(self, address: str) -> str | None:
        """What is banned for what comes from there; None: nothing ever is."""
        parsed = parsed_address(address)
        if parsed is None or parsed.is_loopback or any(parsed in network for network in self._rules.exempt):
            return None
        return f"{network_of(address)}/{NETWORK_BITS}" if parsed.version == 6 else str(parsed)

    def _ban(self, target: Target, kind: str, reason: str, seconds: float) -> None:
        if target in self._asked or len(self._asked) >= _ASKED_MAXIMUM:
            return
        self._asked.add(target)
        self.counters.automatic[kind] += 1
        self._spawn(have_banned(self._impose, target, reason, seconds, self._asked))
