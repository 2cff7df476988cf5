"""`python -m tests.compiled`: fails unless all that setup.py compiles is found as extension modules."""

import importlib
import pkgutil
import sys

from broker import COMPILED_PACKAGES

INTERPRETED = frozenset({"broker.routing.commit"})


def pure_modules() -> list[str]:
    """The modules of the compiled packages that Python would run from their source."""
    found = []
    for package in COMPILED_PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            spec = module.module_finder.find_spec(module.name, None)
            if module.name not in INTERPRETED and (spec is None or str(spec.origin).endswith(".py")):
                found.append(module.name)
    return found


if __name__ == "__main__":
    pure = pure_modules()
    sys.exit(f"not compiled: {', '.join(pure)}" if pure else 0)
