"""`moorline ctl users` and `rules`, against a real node."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from typer.testing import Result

from broker.auth.scram_keys import format_keys, make_keys
from tests.cli import program
from tests.node.harness import NodeProcess, running_node

RULES = "[[rules]]\neffect = 'allow'\nfilters = ['a']\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {"MOORLINE_AUTH__REDIS_USERS": "1", "MOORLINE_AUTH__REDIS_RULES": "1"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield node


def run(node: NodeProcess, *arguments: str, given: str | None = None) -> Result:
    admin = ("--admin", f"127.0.0.1:{node.admin_port}")
    return program.run("ctl", *arguments, *admin, given=given)


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_a_user_from_its_beginning_to_its_end(node: NodeProcess) -> None:
    assert told(run(node, "users", "list")).split() == ["NAME", "ENABLED", "GROUPS", "SCRAM", "CHANGED"]
    own = ("--group", "b", "--group", "a", "--publish", "x/%u", "--subscribe", "y/#")
    assert told(run(node, "users", "add", "an n/é", *own, given="secret\n")) == "an n/é is there now\n"
    shown = json.loads(told(run(node, "users", "show", "an n/é", "--json")))
    assert shown["groups"] == ["a", "b"]
    assert shown["rules"] == {"publish": ["x/%u"], "subscribe": ["y/#"]}
    text = told(run(node, "users", "show", "an n/é"))
    assert [line.split()[-1] for line in text.splitlines()[1:4]] == ["yes", "a,b", "no"]
    assert text.splitlines()[-2:] == ["may publish    x/%u", "may subscribe  y/#"]
    assert told(run(node, "users", "disable", "an n/é")) == "an n/é is disabled\n"
    assert told(run(node, "users", "list")).splitlines()[1].split()[:4] == ["an", "n/é", "no", "a,b"]
    assert told(run(node, "users", "enable", "an n/é")) == "an n/é is enabled\n"
    assert told(run(node, "users", "passwd", "an n/é", given="new\n")) == "an n/é has another password\n"
    assert told(run(node, "users", "groups", "an n/é")) == "an n/é is in no group\n"
    assert told(run(node, "users", "delete", "an n/é")) == "an n/é is deleted\n"


def test_what_is_refused(node: NodeProcess) -> None:
    told(run(node, "users", "add", "ann", given="x\n"))
    for arguments, given, code, reason in [
        (("add", "ann"), "x\n", 1, "refused (409): there is a user ann already"),
        (("passwd", "bob"), "x\n", 1, "refused (404): there is no user bob"),
        (("disable", "bob"), None, 1, "refused (404): there is no user bob"),
        (("delete", "bob"), None, 1, "refused (404): there is no user bob"),
        (("show", "bob"), None, 1, "refused (404): there is no user bob"),
        (("add", "bob"), "\n", 2, "no password given"),
    ]:
        result = run(node, "users", *arguments, given=given)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr == f"moorline ctl: {reason}\n"
    told(run(node, "users", "delete", "ann"))


def test_importing(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
    keys = format_keys(make_keys("x", 4096))
    file.write_text("".join(f"user-{number}:{hashed}\n" for number in range(4)) + f"user-4:{hashed}:{keys}\n")
    for _ in range(2):
        assert told(run(node, "users", "import", str(file))) == "5 users\n"
    page = run(node, "users", "list", "--limit", "3")
    assert [line.split()[0] for line in page.stdout.splitlines()[1:]] == ["user-0", "user-1", "user-2"]
    assert page.stderr == "there may be more: --after user-2\n"
    found = json.loads(told(run(node, "users", "list", "--after", "user-2", "--json")))
    assert [(user["name"], user["scram"]) for user in found["users"]] == [("user-3", False), ("user-4", True)]
    file.write_text("nonsense\n")
    result = run(node, "users", "import", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "line 1" in result.stderr


def test_rules(node: NodeProcess, tmp_path: Path) -> None:
    nothing = run(node, "rules", "show")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "there are no rules\n")
    file = tmp_path / "rules.toml"
    file.write_text(RULES + "x = 1\n")
    result = run(node, "rules", "check", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{file}: line 4: rules.0.x: Extra inputs are not permitted\n"
    result = run(node, "rules", "set", str(file))
    assert result.exit_code == 1
    assert "line 4" in result.stderr
    file.write_text(RULES)
    assert told(run(node, "rules", "check", str(file))) == "no mistakes\n"
    assert told(run(node, "rules", "set", str(file))) == "version 1\n"
    assert told(run(node, "rules", "show")) == RULES
    assert json.loads(told(run(node, "rules", "show", "--json"))) == {"version": 1, "text": RULES}
    assert told(run(node, "rules", "clear")) == "version 2\n"
    file.write_bytes(b"\xff")
    for path, reason in ((file, "not UTF-8"), (tmp_path / "none", "No such file or directory")):
        result = run(node, "rules", "set", str(path))
        assert (result.exit_code, result.stderr) == (2, f"moorline ctl: {path}: {reason}\n")
