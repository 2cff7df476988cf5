"""What holds for every test."""

import os

# Tests see the sources, even if somebody compiled in place; `make test-compiled` says otherwise.
os.environ.setdefault("MOORLINE_PURE", "1")
