"""`moorline redis`: what it prints is what a node and a sentinel are tested with."""

from cluster.store import rights, sentinel
from cluster.store.library import library_source
from tests.cli.program import run


def test_rights_at_the_server_and_at_sentinels() -> None:
    assert run("redis", "acl", "--prefix", "x:").stdout.strip() == rights.access_list("x:")
    assert "function|load" not in run("redis", "acl", "--without-loading").stdout
    assert "+cluster|slots" in run("redis", "acl", "--cluster").stdout.split()
    assert run("redis", "acl", "--sentinel").stdout.strip() == sentinel.access_list()


def test_library() -> None:
    assert run("redis", "library").stdout == library_source()
