"""TLS of a listener, and who is asked there: what may be set, and every mistake in it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import CertificatePair, Settings, dump, load, restore
from tests.listeners.authority import Authority
from tests.tools import Certificate

PUBLIC = "mqtts://0.0.0.0:8883"


@dataclass(frozen=True)
class Files:
    """Good ones, and some that are not."""

    server: Certificate
    nameless: Certificate
    other: Certificate
    ca: Path
    crl: Path
    both: Path


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("files")
    authority = Authority(directory)
    crl, both = directory / "crl.pem", directory / "both.pem"
    crl.write_bytes(authority.crl())
    both.write_bytes(authority.crl() + authority.file.read_bytes())
    server, other = authority.server("localhost"), authority.server("a.example")
    return Files(server, authority.issue("nameless"), other, authority.file, crl, both)


def _load(
    files: Files,
    *,
    node: dict[str, object] | None = None,
    auth: dict[str, object] | None = None,
    **table: object,
) -> Settings:
    secure = {"address": "mqtts://127.0.0.1:8883", "certificate": files.server.file, "key": files.server.key}
    listener = {name: value for name, value in (secure | table).items() if value is not None}
    return load({"node": node or {}, "auth": auth or {}, "listeners": {"it": listener}})


def _mistakes(files: Files, **given: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        _load(files, **given)  # type: ignore[arg-type]  # each test knows
    return caught.value.mistakes


def test_an_authority_is_enough(files: Files) -> None:
    assert _load(files).listeners["it"].client_certificates == "none"
    assert _load(files, client_ca=files.ca).listeners["it"].client_certificates == "required"
    optional = _load(files, client_ca=files.ca, client_certificates="optional", crl=files.crl)
    assert optional.listeners["it"].client_certificates == "optional"
    assert restore(dump(optional)).model_dump() == optional.model_dump()


def test_more_certificates_in_a_variable(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"certificate": str(files.other.file), "key": str(files.other.key)}
    for name, value in {
        "ADDRESS": "mqtts://127.0.0.1:8883",
        "CERTIFICATE": str(files.server.file),
        "KEY": str(files.server.key),
        "MORE_CERTIFICATES": json.dumps([pair]),
        "AUTHENTICATION": '["jwt"]',
        "ALLOW_ANONYMOUS": "true",
    }.items():
        monkeypatch.setenv(f"MOORLINE_LISTENERS__IT__{name}", value)
    listener = load().listeners["it"]
    assert listener.more_certificates == (CertificatePair(certificate=files.other.file, key=files.other.key),)
    assert listener.authentication == ("jwt",)
    assert listener.allow_anonymous is True


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"client_certificates": "optional"}, "client_certificates: 'optional': needs a client_ca"),
        ({"client_ca": "ca", "client_certificates": "none"}, "client_certificates: * client_ca is there"),
        ({"client_ca": "crl"}, "client_ca: * is no PEM file with certificates of authorities"),
        ({"client_ca": "key"}, "client_ca: * is no PEM file with certificates of authorities"),
        ({"client_ca": "nothing"}, "client_ca: *: No such file or directory"),
        ({"crl": "crl"}, "crl: * is for certificates of clients: needs a client_ca"),
        ({"client_ca": "ca", "crl": "ca"}, "crl: * is no PEM file with revocation lists"),
        ({"client_ca": "ca", "crl": "both"}, "crl: * has certificates in it: only revocation lists"),
        ({"tls_ciphers": "nonsense"}, "tls_ciphers: 'nonsense': OpenSSL knows no cipher of that name"),
        ({"tls_ciphers": "ALL:@SECLEVEL=0"}, "tls_ciphers: * has an @: the level of security stays as it is"),
        ({"tls_ciphers": "eNULL:AES128-GCM-SHA256"}, "tls_ciphers: * too weak: "),
        ({"tls_minimum": "1.1"}, "tls_minimum: '1.1': Input should be '1.2' or '1.3'"),
        ({"authentication": ["certificate"]}, "authentication: certificate: nobody is asked for one here"),
        ({"address": "ws://127.0.0.1:1", "certificate": None, "key": None, "client_ca": "ca"},
         "client_ca: * a ws:// listener has no client_ca: that is for mqtts:// and wss://"),
    ],
)  # fmt: skip
def test_mistakes(files: Files, table: dict[str, object], mistake: str) -> None:
    known = {"ca": files.ca, "crl": files.crl, "both": files.both, "key": files.server.key}
    given = {
        name: known.get(value, value) if isinstance(value, str) else value for name, value in table.items()
    }
    told = _mistakes(files, **given)
    setting, _, reason = mistake.partition(": ")
    (line,) = [line for line in told if line.startswith(f"listeners.it.{setting} ")]
    for part in reason.split("*"):
        assert part.strip() in line


@pytest.mark.parametrize("which", ["nameless", "mixed"])
def test_mistakes_in_more_certificates(files: Files, which: str) -> None:
    key = files.server.key if which == "mixed" else files.nameless.key
    table = {"certificate": files.nameless.file, "key": key}
    (mistake,) = _mistakes(files, more_certificates=[table])
    assert mistake.startswith("listeners.it.more_certificates (default): 0: key: ")
    reason = (
        "is not the key of"
        if which == "mixed"
        else "no DNS name (subjectAltName) by which it could be chosen"
    )
    assert reason in mistake


def test_ciphers_for_old_clients(files: Files) -> None:
    assert _load(files, tls_ciphers="AES128-GCM-SHA256:ECDHE+AES").listeners["it"].tls_minimum == "1.2"


def test_a_name_that_is_taken() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"listeners": {"listen": {"address": "mqtt://127.0.0.1:1"}}})
    assert "that is what rules call the listeners of node.listen" in caught.value.mistakes[0]


def test_names_of_all_listeners(files: Files) -> None:
    settings = _load(files, node={"listen": ["127.0.0.1:1", "127.0.0.1:2"]})
    assert settings.listener_names() == ["listen", "listen", "it"]


@pytest.mark.parametrize(
    ("node", "auth", "table", "is_open"),
    [
        (False, "off", {}, True),
        (False, "common_name", {}, False),
        (False, "off", {"allow_anonymous": True}, False),  # it was asked for
        (True, "off", {"allow_anonymous": False}, True),
        (True, "off", {"authentication": []}, False),
        (False, "common_name", {"authentication": []}, True),
        (False, "common_name", {"authentication": ["jwt"]}, False),
        (False, "common_name", {"authentication": [], "allow_anonymous": True}, False),
    ],
)
def test_open_doors(files: Files, node: bool, auth: str, table: dict[str, object], is_open: bool) -> None:
    given = {"node": {"allow_anonymous": node}, "auth": {"certificate_username": auth}}
    if not is_open:
        assert _load(files, address=PUBLIC, client_ca=files.ca, **given, **table).listeners  # type: ignore[arg-type]  # as above
        return
    (mistake,) = _mistakes(files, address=PUBLIC, client_ca=files.ca, **given, **table)
    assert "other machines can reach 0.0.0.0:8883, and nothing would ask clients who they are" in mistake


def test_certificates_make_clients_say_who_they_are() -> None:
    assert load({"auth": {"certificate_username": "san_uri"}}).auth.asks
    assert not load().auth.asks
