"""setup.py compiles what it can, and else leaves a package that runs all the same."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import broker
from broker import COMPILED_MODULES, COMPILED_PACKAGES
from tests.tools import require_tool

ROOT = Path(broker.__file__).parent.parent
GOOD = "def double(value: int) -> int:\n    return 2 * value\n"
WRONG = "def double(value: int) -> int:\n    return str(value)\n"
PRINT_MODE = "import broker, broker.session.{module} as m; print(broker.build_mode(), m.double(4))"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the same build files, with packages small enough to compile in seconds."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("", "mqtt", "session", "routing"):
        (tmp_path / "broker" / package).mkdir()
        (tmp_path / "broker" / package / "__init__.py").touch()
    shutil.copy(ROOT / "broker/__init__.py", tmp_path / "broker")
    (tmp_path / "broker/mqtt/decoder.py").write_text(GOOD)
    (tmp_path / "broker/session/session.py").write_text(GOOD)
    (tmp_path / "broker/routing/commit.py").write_text(GOOD)
    return tmp_path


def _build(project: Path, **environment: str) -> str:
    """Build in place and return what was said."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=project,
        env={**_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"MOORLINE_PURE", "PYTHONPATH"}}


def _run(project: Path, module: str = "session", **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PRINT_MODE.format(module=module)],
        cwd=project,
        env={**_environment(), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


def _extensions(project: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (project / "broker").rglob("*.so")}


@pytest.mark.timeout(120)
def test_modules_are_compiled_and_pure_ones_preferred_on_demand(project: Path) -> None:
    require_tool("gcc")
    _build(project)
    assert _extensions(project) == {"decoder", "session"}, "packages and commit stay as they are"
    assert _run(project) == "compiled 8"
    assert _run(project, MOORLINE_PURE="0") == "compiled 8"
    (project / "broker/session/session.py").write_text(GOOD.replace("2 *", "3 *"))
    assert _run(project, MOORLINE_PURE="1") == "pure 12", "the source runs though an extension lies beside it"


@pytest.mark.timeout(60)
def test_without_a_compiler_it_goes_on_in_pure_python(project: Path) -> None:
    assert "runs as pure Python: the C compiler failed" in _build(project, CC="no-such-compiler")
    assert not list(project.rglob("*.so"))
    assert _run(project) == "pure 8"


@pytest.mark.timeout(60)
def test_errors_of_mypy_leave_it_pure(project: Path) -> None:
    (project / "broker/session/session.py").write_text(WRONG)
    said = _build(project)
    assert "Incompatible return value type" in said
    assert "runs as pure Python: mypy found errors" in said
    assert not list(project.rglob("*.so"))


@pytest.mark.timeout(60)
def test_pure_mode_builds_nothing(project: Path) -> None:
    assert "pure Python" not in _build(project, MOORLINE_PURE="1")
    assert not list(project.rglob("*.so"))


def test_what_is_compiled_can_be_told_to_run_as_its_source() -> None:
    """`broker.COMPILED_MODULES` is what MOORLINE_PURE=1 looks for, and what `make test-compiled` asks for."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (patterns,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SOURCES"
    ]
    packages = [f"{package.replace('.', '/')}/*.py" for package in COMPILED_PACKAGES]
    modules = [f"{module.replace('.', '/')}.py" for module in COMPILED_MODULES]
    assert sorted(patterns) == sorted(packages + modules)
