"""Builds the packages of the data plane with mypyc, if it can.

Everything else is in pyproject.toml. Without a compiler, without mypyc, when mypy finds errors, or with
MOORLINE_PURE=1, the installation goes on in pure Python and says so: all modules run either way.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

SOURCES = (
    "broker/mqtt/*.py",
    "broker/session/*.py",
    "broker/routing/*.py",
    # What each chunk, connect and disconnect goes through.
    "broker/auth/address.py",
    "broker/auth/ban_list.py",
    "broker/client/admitting.py",
    "broker/client/arriving.py",
    "broker/client/banning.py",
    "broker/client/client.py",
    "broker/client/closing.py",
    "broker/client/confirming.py",
    "broker/client/connecting.py",
    "broker/client/deadlines.py",
    "broker/client/deciding.py",
    "broker/client/entrance.py",
    "broker/client/fights.py",
    "broker/client/flows.py",
    "broker/client/hub.py",
    "broker/client/members.py",
    "broker/client/mounting.py",
    "broker/client/noting.py",
    "broker/client/publishing.py",
    "broker/client/recent.py",
    "broker/client/renaming.py",
    "broker/client/subscribing.py",
    "broker/client/telling.py",
    "broker/client/transport.py",
    "broker/client/wills.py",
    "broker/listeners/acceptor.py",
    "broker/listeners/admission.py",
    "broker/listeners/transports.py",
    "broker/listeners/wires.py",
    "broker/observability/events.py",
    "broker/observability/lines.py",
    "broker/observability/metrics.py",
    "broker/observability/token_bucket.py",
    "cluster/pulse.py",
    "cluster/store/call.py",
    "cluster/store/deadlines.py",
    "cluster/store/entry.py",
    "cluster/store/keys.py",
    "cluster/store/reply.py",
    "cluster/store/sessions.py",
)
INTERPRETED = {
    "broker/routing/commit.py",
    "broker/routing/following.py",
}  # asynchronous glue: nothing to gain, and mypyc's coroutines differ
MYPY_FLAGS = (
    "--config-file=",  # `make lint` is strict; a user's installation shouldn't fail on style
    "--ignore-missing-imports",  # pip builds in an environment without our dependencies
    "--follow-imports=silent",  # nor should it fail on modules that stay as they are
)


def sources() -> list[str]:
    """The modules to compile. Packages' __init__ only re-export, so they stay as they are."""
    files = sorted(path.as_posix() for pattern in SOURCES for path in Path().glob(pattern))
    return [file for file in files if not file.endswith("/__init__.py") and file not in INTERPRETED]


def stay_pure(reason: str) -> None:
    """Tell why nothing is compiled."""
    print(f"moorline: not compiled, runs as pure Python: {reason}", file=sys.stderr)


def extensions() -> list[Extension]:
    """C extensions made from the sources, none if that can't be done."""
    if os.environ.get("MOORLINE_PURE") == "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        stay_pure(f"mypyc is missing ({error})")
        return []
    try:
        made = mypycify(
            [*MYPY_FLAGS, *sources()],
            opt_level="3",
            debug_level="0",
            multi_file=True,  # a file of C for each module, for all cores to compile
            target_dir="build/mypyc",
        )
    except SystemExit:  # how mypycify reports errors of mypy, after printing them
        stay_pure("mypy found errors")
        return []
    extensions = cast(list[Extension], made)  # of setuptools, since that is imported; not of distutils
    for extension in extensions:
        # What modules call of each other need not be found by name when they are loaded.
        extension.extra_compile_args.append("-fvisibility=hidden")
    return extensions


def on_all_cores(compile_files: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """`compile_files` of a compiler, for several files at a time; setuptools takes one after the other."""

    def compile_together(files: list[str], *arguments: Any, **options: Any) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(lambda file: compile_files([file], *arguments, **options), files)
            return [object_file for object_files in made for object_file in object_files]

    return compile_together


class AllOrNothing(build_ext):
    """Compiles every extension or none, on all cores.

    mypyc puts the code of all modules in one library and a small extension for each module beside it; with
    setuptools' own `optional` the small ones would be installed without the library and fail on import.
    """

    def run(self) -> None:
        """Build; on a failure of the compiler drop what was built and go on."""
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            for output in self.get_outputs():
                Path(output).unlink(missing_ok=True)
            self.extensions.clear()
            stay_pure(f"the C compiler failed ({error})")

    def build_extensions(self) -> None:
        """Build, with a compiler that is there now."""
        self.compiler.compile = on_all_cores(self.compiler.compile)
        super().build_extensions()


setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNothing})
