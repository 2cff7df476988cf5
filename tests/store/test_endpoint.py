"""What a Redis URL says."""

import ssl
from pathlib import Path

import pytest

from cluster.store.endpoint import Endpoint, Tls, parse_url
from cluster.store.errors import InvalidRedisUrl

GOOD = [
    ("redis://localhost", Endpoint(host="localhost")),
    ("redis://10.0.0.1:6400/3", Endpoint(host="10.0.0.1", port=6400, database=3)),
    ("redis://h?db=2", Endpoint(host="h", database=2)),
    ("redis://[::1]:7000", Endpoint(host="::1", port=7000)),
    ("redis://:p%40ss@h", Endpoint(host="h", password="p@ss")),
    ("redis://moor:p%2Fw@h/", Endpoint(host="h", username="moor", password="p/w")),
    ("unix:///run/r.sock", Endpoint(path="/run/r.sock")),
    ("unix:///a%20b/r.sock?db=1", Endpoint(path="/a b/r.sock", database=1)),
    ("unix://u:p@/run/r.sock", Endpoint(path="/run/r.sock", username="u", password="p")),
    ("rediss://h", Endpoint(host="h", tls=Tls())),
    ("rediss://h?ssl_cert_reqs=none", Endpoint(host="h", tls=Tls(verify=False))),
    (
        "rediss://h?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k",
        Endpoint(host="h", tls=Tls(ca_file="/ca", certificate_file="/c", key_file="/k")),
    ),
]
BAD = [
    ("localhost:6379", "does not begin with one of"),
    ("http://h", "does not begin with one of"),
    ("redis:h", "does not begin with one of"),
    ("redis+sentinel://:secret@h/main", "not supported yet"),
    ("redis+cluster://:secret@h", "not supported yet"),
    ("redis://:secret@", "names no host"),
    ("redis://:secret@h:port", "not valid"),
    ("redis://u:secret/part@h", "%2F"),
    ("redis://u:6379?secret@h", "%3F"),
    ("redis://u:6379/secret@h", "the database is a number"),
    ("redis://u:secret\u2100@h", "can't be taken apart"),
    ("redis://:secret@h/x", "the database is a number"),
    ("redis://:secret@h?timeout=3", "no option 'timeout'"),
    ("redis://:secret@h?ssl_ca_certs=/x", "no option 'ssl_ca_certs'"),
    ("rediss://:secret@h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
    ("unix://:secret@relative/path", "begins with a slash"),
    ("unix://", "names no socket"),
]


@pytest.mark.parametrize(("url", "endpoint"), GOOD, ids=[url for url, _ in GOOD])
def test_reads_url(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(("url", "text"), BAD, ids=[url for url, _ in BAD])
def test_refuses_url_without_telling_the_password(url: str, text: str) -> None:
    with pytest.raises(InvalidRedisUrl, match=text) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://u:secret@h:1", "h:1"),
        ("rediss://:secret@[::1]", "[::1]:6379"),
        ("unix://:secret@/r.sock", "unix:/r.sock"),
    ],
)
def test_text_has_no_password(url: str, text: str) -> None:
    endpoint = parse_url(url)
    assert str(endpoint) == text
    assert "secret" not in repr(endpoint)


def test_tls_verifies_unless_told_not_to() -> None:
    context = Tls().context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert Tls(verify=False).context().verify_mode == ssl.CERT_NONE


def test_tls_names_the_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidRedisUrl, match=r"no\.pem"):
        Tls(ca_file=str(tmp_path / "no.pem")).context()
    with pytest.raises(InvalidRedisUrl, match=r"no\.pem"):
        Tls(certificate_file=str(tmp_path / "no.pem")).context()
