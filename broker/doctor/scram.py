"""Keys for SCRAM in the password file: whether they are of use, and give nobody away."""

from collections import Counter
from collections.abc import Iterator

from broker.auth.password_file import read_passwords
from broker.auth.scram_keys import parse_keys
from broker.doctor.finding import Finding, ok, warn
from broker.settings import Settings


def check_scram(settings: Settings) -> Iterator[Finding]:
    """Nothing if there are mistakes in the file: others tell them."""
    auth = settings.auth
    if auth.password_file is None:
        return
    try:
        users = read_passwords(auth.password_file)
    except ValueError:
        return
    counts = Counter(parse_keys(kept.keys).iterations for kept in users.values() if kept.keys is not None)
    said = f"{counts.total()} of {len(users)} users of {auth.password_file} have keys"
    if not auth.scram:
        if counts:
            advice = "auth.scram = true, or set the passwords anew by `moorline passwd --no-scram`"
            yield warn("auth.scram", f"{said} for SCRAM, which only help who steals the file", advice)
        return
    iterations = {*counts, *([auth.scram_iterations] if auth.redis_users else [])}
    if len(iterations) > 1:
        numbers = ", ".join(map(str, sorted(iterations)))
        advice = "the same for `moorline passwd --iterations` and auth.scram_iterations, and new passwords"
        yield warn("auth.scram", f"keys have {numbers} iterations: that tells who is a user", advice)
    else:
        yield ok("auth.scram", said)
