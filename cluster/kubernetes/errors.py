"""How a request to the Kubernetes API may end but well.

ApiError
├── ApiAway           no answer, none in time, or one of 5xx
├── TooManyRequests   429: not before `retry_after_seconds`
├── Forbidden         401, 403: the text says which rule is missing
├── NotFound          404
├── Conflict          409: somebody else was faster; or 422: another object has that name now
├── Expired           410: the history that was asked for is gone, list again
└── Refused           anything else of 4xx, or an answer that makes no sense
"""

from broker.errors import MoorlineError


class ApiError(MoorlineError):
    """`code`: what is counted, the status or a word."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_after_seconds = 0.0
        """What the server asks for; a try before that is in vain."""


class ApiAway(ApiError):
    """Try again later."""


class TooManyRequests(ApiAway):
    """Try again, but not before `retry_after_seconds`."""


class Forbidden(ApiError):
    """Somebody has to change a Role first."""


class NotFound(ApiError):
    """It is not there."""


class Conflict(ApiError):
    """Read it again."""


class Expired(ApiError):
    """List again."""


class Refused(ApiError):
    """It makes no sense to the server, or its answer none to us."""
