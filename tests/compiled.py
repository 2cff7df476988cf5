"""`python -m tests.compiled`: fails unless all that setup.py compiles is found as extension modules."""

import importlib
import pkgutil
import sys
from importlib.util import find_spec

from broker import COMPILED_MODULES, COMPILED_PACKAGES

INTERPRETED = frozenset({"broker.routing.commit", "broker.routing.following"})


def pure_modules() -> list[str]:
    """The modules of the compiled packages that Python would run from their source."""
    names = list(COMPILED_MODULES)
    for package in COMPILED_PACKAGES:
        path = importlib.import_module(package).__path__
        names += [module.name for module in pkgutil.iter_modules(path, f"{package}.")]
    return [name for name in names if name not in INTERPRETED and _is_pure(name)]


def _is_pure(name: str) -> bool:
    spec = find_spec(name)
    return spec is None or str(spec.origin).endswith(".py")


if __name__ == "__main__":
    pure = pure_modules()
    sys.exit(f"not compiled: {', '.join(pure)}" if pure else 0)
