"""What a Redis URL says."""

import ssl
from pathlib import Path

import pytest

from cluster.store.endpoint import Endpoint, ServerFiles, Tls, parse_url
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
    (
        "redis+sentinel://moor:p%2Fw@a,[::1]:7000,a:26379/main/3?sentinel_password=s%26w",
        Endpoint(
            username="moor",
            password="p/w",
            database=3,
            master_name="main",
            sentinels=(
                Endpoint(host="a", port=26379, password="s&w", master_name="main"),
                Endpoint(host="::1", port=7000, password="s&w", master_name="main"),
            ),
        ),
    ),
    (
        "rediss+sentinel://a/main?db=1&sentinel_username=u&ssl_cert_reqs=none",
        Endpoint(
            database=1,
            tls=Tls(verify=False),
            master_name="main",
            sentinels=(
                Endpoint(host="a", port=26379, username="u", tls=Tls(verify=False), master_name="main"),
            ),
        ),
    ),
]
BAD = [
    ("localhost:6379", "does not begin with one of"),
    ("http://h", "does not begin with one of"),
    ("redis:h", "does not begin with one of"),
    ("redis+sentinel://:secret@h", "what the sentinels call the primary"),
    ("redis+sentinel://:secret@h/?sentinel_password=secret", "what the sentinels call the primary"),
    ("redis+sentinel://:secret@/main", "names no host"),
    ("redis+sentinel://:secret@a,,b/main", "an empty one"),
    ("redis+sentinel://:secret@a:x/main", "can't be taken apart"),
    ("redis+sentinel://:sec/ret@a/main?x=secret", "can't be taken apart|names no host|no option|is a number"),
    ("redis+sentinel://:secret@a/main/zero", "the database is a number"),
    ("redis+sentinel://:secret@a/main?ssl_cert_reqs=none", "no option 'ssl_cert_reqs'"),
    ("redis+sentinel://:secret@a/main?sentinel_pass=secret", "no option 'sentinel_pass'"),
    ("redis+sentinel://:secret@" + ",".join(f"h{n}" for n in range(21)) + "/main", "more than 20"),
    ("redis+cluster://:secret@h/1", "the database 0 only"),
    ("redis+cluster://:secret@h,", "names no host"),
    ("redis+cluster://:secret@h:x,g", "can't be taken apart"),
    ("unix+cluster://:secret@h", "does not begin with"),
    ("redis+cluster://:secret@" + ",".join(f"h{n}" for n in range(101)), "names more than 100 nodes"),
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
        ("redis+sentinel://:secret@a,[::1]:7/main?sentinel_password=secret", "'main' of a:26379, [::1]:7"),
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


def test_primary_is_reached_as_the_url_says() -> None:
    place = parse_url("redis+sentinel://moor:secret@a/main/3")
    assert place.at("::2", 6380) == parse_url("redis://moor:secret@[::2]:6380/3")


def test_credentials_of_the_moment(tmp_path: Path) -> None:
    """Sentinels have their own; each kind is looked for in its own file first, then in the URL's."""
    url, password = tmp_path / "url", tmp_path / "password"
    url.write_text("redis+sentinel://u:old@a/main?sentinel_username=s&sentinel_password=older")
    place = parse_url(url.read_text(), ServerFiles(url_file=url, sentinel_password_file=password))
    url.write_text("redis+sentinel://u:new@a/main?sentinel_username=s&sentinel_password=newer")
    password.write_text("newest")
    assert place.at("h", 1).credentials() == ("u", "new")
    assert place.sentinels[0].credentials() == ("s", "newest")
    place = parse_url(url.read_text(), ServerFiles(url_file=url, sentinel_username="other"))
    assert place.sentinels[0].credentials() == ("other", "newer")


def test_nodes_of_a_cluster() -> None:
    endpoint = parse_url("rediss+cluster://user:p%40ss@one:7000,two,[::1]:7001,one:7000?ssl_cert_reqs=none")
    assert endpoint.seeds == (("one", 7000), ("two", 6379), ("::1", 7001))
    assert endpoint.is_cluster
    assert (endpoint.host, endpoint.port) == ("one", 7000)
    assert endpoint.credentials() == ("user", "p@ss")
    assert endpoint.tls == Tls(verify=False)
    assert not parse_url("redis://one").is_cluster
