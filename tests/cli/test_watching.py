"""`--watch`: the same command again and again."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from broker.watching import watched
from tests.cli.program import make_program, run
from tests.tools import hear_ctrl_c

WAITED_SECONDS = 30.0
pytestmark = pytest.mark.timeout(60)  # programs are started, on a machine that may be busy


def program(rounds: Sequence[int]) -> typer.Typer:
    """A command whose rounds end with these exit codes; Ctrl-C comes in the one after the last."""
    app = typer.Typer()
    codes = iter(rounds)

    @app.command()
    @watched
    def show(name: str, loud: bool = False) -> None:
        """Show a name."""
        code = next(codes, None)
        if code is None:
            raise KeyboardInterrupt
        if code:
            typer.echo("not well", err=True)
            raise typer.Exit(code)
        typer.echo(name.upper() if loud else name)

    return app


def test_without_it_the_command_is_as_it_was() -> None:
    assert CliRunner().invoke(program([0]), ["a", "--loud"]).stdout == "A\n"
    assert CliRunner().invoke(program([1]), ["a"]).exit_code == 1


def test_rounds_are_parted_by_an_empty_line_and_one_that_fails_is_followed_by_others() -> None:
    result = CliRunner().invoke(program([0, 1, 0]), ["a", "--watch", "0.1"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\n\n\na\n\n", "not well\n")


def test_wrong_usage_ends_it() -> None:
    assert CliRunner().invoke(program([0, 2, 0]), ["a", "--watch", "0.1"]).exit_code == 2
    assert CliRunner().invoke(program([0]), ["a", "--watch", "0"]).exit_code == 2


def test_on_a_terminal_ctrl_c_ends_it_and_each_round_replaces_the_one_before() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "broker", "ctl", "nodes", "--watch", "0.1", "--admin", "127.0.0.1:1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=theirs, stderr=pipe, preexec_fn=hear_ctrl_c) as watching:
        os.close(theirs)
        shown = b""
        while shown.count(b"\x1b[2J\x1b[Hevery 0.1 s, ") < 3:
            shown += os.read(ours, 4096)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WAITED_SECONDS) == 0
        assert watching.stderr is not None
        assert watching.stderr.read() == b""
    os.close(ours)
    assert b"no answer from http://127.0.0.1:1" in shown


def completed(shell: str, line: str, **environment: str) -> str:
    """What the program says to a shell that asks how a line may go on."""
    variables = {"_MOORLINE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, **environment}
    return run(environment=variables).stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_are_told_how_a_line_may_go_on(shell: str) -> None:
    told = completed(shell, "moorline ctl heal", _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert "health" in told
    assert "nodes" not in told


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """By the script that is installed, in a real shell."""
    program = tmp_path / "moorline"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m broker "$@"\n')
    program.chmod(0o755)
    script = completed("bash", "", _MOORLINE_COMPLETE="source_bash")
    typed = f"{script}\nCOMP_WORDS=(moorline ctl nodes --wa) COMP_CWORD=3\n_moorline_completion moorline\n"
    done = subprocess.run(
        ["bash", "-c", typed + 'echo "${COMPREPLY[@]}"'],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=WAITED_SECONDS,
    )
    assert (done.stdout, done.stderr) == ("--watch\n", "")


def test_completion_is_installed_and_shown_for_the_shell_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tests.cli.program.make_program", make_program.__wrapped__)  # looks at that, too
    assert "complete -o default -F _moorline_completion moorline" in run("--show-completion", "bash").stdout
    assert "completion installed" in run("--install-completion", "fish").stdout
    installed = (tmp_path / ".config/fish/completions/moorline.fish").read_text()
    assert installed.startswith("complete --command moorline")
