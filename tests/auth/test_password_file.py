"""The password file, and the authenticator that asks it."""

import asyncio
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from broker.auth import Credentials, Denied, Identity
from broker.auth.cache import VerdictCache
from broker.auth.hashing import Hashing
from broker.auth.password_file import (
    SOURCE,
    PasswordFile,
    hash_password,
    is_user_name,
    load_passwords,
    read_passwords,
)
from broker.auth.scram_keys import format_keys, make_keys
from broker.mqtt import ReasonCode

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ANN = Identity("ann", source=SOURCE)


def _credentials(name: str | None, password: bytes | None, address: str = "10.0.0.1") -> Credentials:
    return Credentials("c", name, password, address, "tcp")


def _file(path: Path, **passwords: str) -> Path:
    file = path / "passwords"
    file.write_text(
        "# users\n\n" + "".join(f"{name}:{CHEAP.hash(text)}\n" for name, text in passwords.items())
    )
    return file


def _authenticator(file: Path, hashing: Hashing | None = None, cache_seconds: float = 60) -> PasswordFile:
    return PasswordFile(load_passwords(file), hashing or Hashing(1, 100), VerdictCache(cache_seconds, 100))


def test_what_is_hashed_is_in_no_way_the_password() -> None:
    hashed = hash_password("pässword")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashed != hash_password("pässword")


def test_verdicts(tmp_path: Path) -> None:
    async def run() -> None:
        asked = _authenticator(_file(tmp_path, ann="pässword", bob="x"))
        for _ in range(2):  # the second time remembered
            assert await asked.authenticate(_credentials("ann", "pässword".encode())) == ANN
            assert await asked.authenticate(_credentials("ann", b"x")) == Denied()
            assert await asked.authenticate(_credentials("nobody", b"x")) is None
        assert await asked.authenticate(_credentials("ann", None)) == Denied()
        assert await asked.authenticate(_credentials("nobody", None)) is None
        assert await asked.authenticate(_credentials(None, b"x")) is None

    asyncio.run(run())


def test_an_unknown_user_costs_as_much_as_a_wrong_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        asked = _authenticator(_file(tmp_path, ann="x"))
        hashed: list[str] = []
        real = Hashing.verify

        async def count(self: Hashing, address: str, text: str, password: bytes) -> bool:
            hashed.append(text.rpartition("$")[0].rpartition("$")[0])
            return await real(self, address, text, password)

        monkeypatch.setattr(Hashing, "verify", count)
        for name in ("ann", "nobody"):
            for _ in range(2):
                await asked.authenticate(_credentials(name, b"wrong"))
        assert hashed == ["$argon2id$v=19$m=8,t=1,p=1"] * 2  # each once, with the same parameters

    asyncio.run(run())


def test_an_unknown_user_costs_nothing_if_another_takes_the_time(tmp_path: Path) -> None:
    async def run() -> None:
        hashing = Hashing(1, 1)
        file = load_passwords(_file(tmp_path, ann="x"))
        asked = PasswordFile(file, hashing, VerdictCache(60, 100), hides_unknown=False)
        await hashing.gate.enter("")  # it is taken
        assert await asked.authenticate(_credentials("nobody", b"x")) is None
        hashing.gate.leave()
        assert await asked.authenticate(_credentials("ann", b"x")) == ANN

    asyncio.run(run())


def test_a_flood_does_not_keep_others_out(tmp_path: Path) -> None:
    """500 guesses at once from one address: they get in each other's way only."""

    async def run() -> None:
        hashing = Hashing(1, 10)
        asked = _authenticator(_file(tmp_path, ann="x", bob="y"), hashing)
        flood = [
            asyncio.ensure_future(asked.authenticate(_credentials("ann", b"%d" % number, "10.6.6.6")))
            for number in range(500)
        ]
        await asyncio.sleep(0)
        assert await asked.authenticate(_credentials("bob", b"y")) == Identity("bob", source=SOURCE)
        assert hashing.gate.waiting > 0  # it did not have to wait for them
        verdicts = await asyncio.gather(*flood)
        assert verdicts.count(Denied(ReasonCode.SERVER_BUSY)) >= 480
        assert all(isinstance(verdict, Denied) for verdict in verdicts)

    asyncio.run(run())


def test_another_file_counts_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        asked = _authenticator(_file(tmp_path, ann="x", bob="y", carol="z"))
        assert await asked.authenticate(_credentials("ann", b"x")) == ANN
        before = read_passwords(tmp_path / "passwords")
        (tmp_path / "passwords").write_text(f"carol:{before['carol'].hashed}\nbob:{CHEAP.hash('new')}\n")
        assert asked.replace(load_passwords(tmp_path / "passwords")) == {"ann", "bob"}
        assert await asked.authenticate(_credentials("ann", b"x")) is None
        assert await asked.authenticate(_credentials("bob", b"y")) == Denied()

    asyncio.run(run())


def test_keys_for_scram(tmp_path: Path) -> None:
    keys = [make_keys("x", iterations) for iterations in (5000, 6000)]
    hashed = CHEAP.hash("x")
    file = tmp_path / "passwords"
    text = f"ann:{hashed}\n" + "".join(
        f"{name}:{hashed}:{format_keys(each)}\n" for name, each in zip(("bob", "carol"), keys, strict=True)
    )

    async def run() -> None:
        file.write_text(text)
        asked = _authenticator(file)
        for name, kept in {"ann": None, "bob": keys[0], "carol": keys[1]}.items():
            assert await asked.authenticate(_credentials(name, b"x")) == Identity(name, source=SOURCE)
            found = await asked.find(name)
            assert found is not None
            assert (found.name, found.user.scram) == (name, kept)
        assert await asked.find("nobody") is None
        assert asked.scram_iterations == 5000
        before = await asked.find("carol")
        file.write_text(text.replace(format_keys(keys[0]), format_keys(keys[1])))
        assert asked.replace(load_passwords(file)) == {"bob"}  # by the keys before it may have come in
        assert await asked.find("carol") == before
        assert asked.scram_iterations == 6000
        file.write_text(f"carol:{hashed}\n")
        assert asked.replace(load_passwords(file)) == {"ann", "bob", "carol"}
        assert await asked.find("carol") != before
        assert asked.scram_iterations is None

    asyncio.run(run())


def test_nothing_of_it_shows(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    keys = format_keys(make_keys("x", 4096))
    file.write_text(f"ann:{CHEAP.hash('x')}:{keys}\n")
    shown = repr(load_passwords(file).users)
    assert keys[-40:] not in shown
    assert "argon2id" not in shown


def test_the_place_is_given_back_by_who_gives_up(tmp_path: Path) -> None:
    async def run() -> None:
        asked = _authenticator(_file(tmp_path, ann="x"))
        given_up = asyncio.ensure_future(asked.authenticate(_credentials("ann", b"1")))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await asyncio.wait_for(asked.authenticate(_credentials("ann", b"x")), 5) == ANN

    asyncio.run(run())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann", "line 2: no argon2id hash"),
        ("ann:open sesame", "line 2: no argon2id hash"),
        (":$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA", "line 2: no user name"),
        ("ann:$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA", "line 2: the hash is not by argon2id"),
        ("ann:$argon2id$v=19$m=9999999,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA", "line 2: over 1048576 KiB"),
        ("bob:$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA", "line 2: this user was there before"),
        ("ann:$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA:", "line 2: no keys for SCRAM-SHA-256"),
        ("ann:$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA:open sesame", "line 2: no keys for SCRAM"),
    ],
)
def test_mistakes(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"bob:{CHEAP.hash('x')}\n{line}\n")
    with pytest.raises(ValueError, match="line 2") as caught:
        read_passwords(file)
    assert reason in str(caught.value)
    assert "sesame" not in str(caught.value).rpartition("/")[2]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_passwords(tmp_path / "passwords")
    with pytest.raises(ValueError, match="No such file"):
        read_passwords(tmp_path / "nothing")


def test_names() -> None:
    assert is_user_name("ann@example.org")
    assert not any(is_user_name(name) for name in ("", "#a", "a:b", "a\nb", "a" * 256))
