"""`moorline ctl` with good and bad tokens, by HTTPS, on two nodes and on the parent of workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import ctl
from broker.auth.admin_tokens import Role, make_token
from tests.node.harness import NodeProcess, refused_start, running_node
from tests.node.redis_server import running_redis
from tests.tools import Certificate, make_certificate


@dataclass
class Steered:
    """Two nodes on one Redis, by HTTPS, and who may steer them."""

    nodes: list[NodeProcess]
    certificate: Certificate
    tokens: dict[Role, str]

    def ctl(self, role: Role | None, *arguments: str, node: int = 0) -> Result:
        """With a token of this role, or with one that nobody knows."""
        environment = {
            "MOORLINE_TOKEN": self.tokens[role] if role is not None else "moorline_guess",
            "MOORLINE_CAFILE": str(self.certificate.file),
            "MOORLINE_ADMIN_URL": f"https://127.0.0.1:{self.nodes[node].admin_port}",
        }
        return CliRunner().invoke(ctl.app, list(arguments), env=environment | {"COLUMNS": "300"})


def settings_of(directory: Path) -> tuple[dict[str, str], dict[Role, str], Certificate]:
    made = {role: make_token(str(role), role) for role in Role}
    file, certificate = directory / "tokens", make_certificate(directory)
    file.write_text("".join(token.to_line() for _, token in made.values()))
    environment = {
        "MOORLINE_ADMIN__TOKENS_FILE": str(file),
        "MOORLINE_ADMIN__CERTIFICATE": str(certificate.file),
        "MOORLINE_ADMIN__KEY": str(certificate.key),
        "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "1",
    }
    return environment, {role: text for role, (text, _) in made.items()}, certificate


@pytest.fixture
def steered(tmp_path: Path) -> Iterator[Steered]:
    environment, tokens, certificate = settings_of(tmp_path)
    directories = [tmp_path / name for name in ("alpha", "beta")]
    for each in directories:
        each.mkdir()
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(
            directories[0], "--redis", server.url, "--node-name", "alpha", environment=environment
        ) as one,
        running_node(
            directories[1], "--redis", server.url, "--node-name", "beta", environment=environment
        ) as two,
    ):
        yield Steered([one, two], certificate, tokens)


def test_roles_on_two_nodes(steered: Steered, tmp_path: Path) -> None:
    for node in (0, 1):
        assert "alpha" in steered.ctl(Role.READ, "nodes", node=node).stdout
        unknown = steered.ctl(None, "nodes", node=node)
        assert unknown.exit_code == 1
        assert "refused (401): needs a token" in unknown.stderr
        short = steered.ctl(Role.READ, "drain", "alpha", node=node)
        assert (short.exit_code, "refused (403): the token read is for read" in short.stderr) == (1, True)
    assert len(steered.nodes[1].events("denied")) == 2
    assert steered.ctl(Role.ADMIN, "health").exit_code == 0
    file = tmp_path / "token"
    file.write_text(steered.tokens[Role.OPERATE] + "\n")
    done = steered.ctl(None, "--token-file", str(file), "drain", "alpha", "--wait", node=1)
    assert (done.exit_code, done.stdout.endswith("has left\n")) == (0, True), done.output
    (record,) = steered.nodes[1].events("admin")
    assert (record["logger"], record["token_name"], record["status"]) == ("moorline.audit", "operate", 202)
    assert record["action"] == "POST /api/v1/nodes/alpha/drain"
    for each in steered.nodes:
        assert "moorline_guess" not in each.log.read_text()
        assert not any(token in each.log.read_text() for token in steered.tokens.values())


def test_wrong_usage_of_tokens(steered: Steered, tmp_path: Path) -> None:
    for option in ("--token-file", "--cafile"):
        missing = steered.ctl(None, option, str(tmp_path / "none"), "nodes")
        assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "has no token" in steered.ctl(None, "--token-file", str(empty), "nodes").stderr
    assert "no PEM file" in steered.ctl(None, "--cafile", str(empty), "nodes").stderr
    other = make_certificate(tmp_path, "other")
    stranger = steered.ctl(Role.READ, "--cafile", str(other.file), "nodes")
    assert (stranger.exit_code, "verify failed" in stranger.stderr) == (1, True), stranger.output


def test_the_parent_of_workers_asks_too(tmp_path: Path) -> None:
    environment, tokens, certificate = settings_of(tmp_path)
    with running_node(tmp_path, "--workers", "2", environment=environment) as node:
        parent = Steered([node], certificate, tokens)
        assert parent.ctl(Role.READ, "nodes").exit_code == 0
        assert "refused (401)" in parent.ctl(None, "nodes").stderr
        assert "refused (403)" in parent.ctl(Role.READ, "drain").stderr
        assert parent.ctl(Role.OPERATE, "drain").exit_code == 0
        assert node.wait() == 0


def test_mistakes_prevent_the_start(tmp_path: Path) -> None:
    environment, _, certificate = settings_of(tmp_path)
    code, text = refused_start(tmp_path / "a", environment=environment | {"MOORLINE_ADMIN__KEY": ""})
    assert code == 2
    code, text = refused_start(
        tmp_path / "b", environment={"MOORLINE_ADMIN__CERTIFICATE": str(certificate.file)}
    )
    assert (code, "admin.certificate and admin.key go together" in text) == (2, True), text
    code, text = refused_start(
        tmp_path / "c", environment={"MOORLINE_ADMIN__TOKENS_FILE": str(tmp_path / "none")}
    )
    assert (code, "admin.tokens_file (MOORLINE_ADMIN__TOKENS_FILE)" in text) == (2, True), text
    (tmp_path / "tokens").write_text("nonsense\n")
    code, text = refused_start(
        tmp_path / "d", environment={"MOORLINE_ADMIN__TOKENS_FILE": str(tmp_path / "tokens")}
    )
    assert (code, "line 1: not NAME ROLE sha256:HASH" in text) == (2, True), text
