"""Looks for known vulnerabilities of what we depend on: `python -m tests.project.audit`, or `make audit`.

A finding is a failure. That no advisory service can be reached is none, and is said: then at least each
package is pinned and has hashes, so what runs is what was looked at when it was locked. pip-audit itself
would call it "no known vulnerabilities" if it could look up nothing at all.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
LOCKS: Final = ("requirements.lock", "requirements-image.lock", "requirements-build.lock")
"""The first has all that the others have."""
SERVICES: Final = ("pypi", "osv")
"""One is enough; they have the same advisories."""
ACCEPTED: Final[Mapping[str, str]] = {}
"""By id: why it is no danger to us."""
_SECONDS: Final = 180
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)")


@dataclass(frozen=True)
class Finding:
    """A known vulnerability."""

    package: str
    id: str
    fixed_in: str

    def __str__(self) -> str:
        return f"{self.package}: {self.id}, fixed in {self.fixed_in or 'no release yet'}"


@dataclass(frozen=True)
class Answer:
    """What a service knows."""

    looked_up: int
    unknown: int
    findings: Sequence[Finding]


def pins(text: str) -> tuple[dict[str, str], list[str]]:
    """Versions by package, and what is not pinned with a hash."""
    found: dict[str, str] = {}
    loose = []
    for entry in re.split(r"\n(?=\S)", text):
        if not entry.strip() or entry.startswith("#"):
            continue
        pin = _PIN.match(entry)
        if pin is None or "--hash=sha256:" not in entry:
            loose.append(entry.splitlines()[0])
        else:
            found[pin[1].lower()] = pin[2]
    return found, loose


def read_answer(text: str) -> Answer | None:
    """Of pip-audit, as JSON; None if it is none."""
    try:
        dependencies = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    looked_up = [each for each in dependencies if "skip_reason" not in each]
    findings = [
        Finding(f"{each['name']} {each['version']}", found["id"], ", ".join(found["fix_versions"]))
        for each in looked_up
        for found in each["vulns"]
        if not {found["id"], *found["aliases"]} & set(ACCEPTED)
    ]
    return Answer(len(looked_up), len(dependencies) - len(looked_up), findings)


def ask(service: str) -> Answer | None:
    """About all that is locked; None if there is no answer."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / LOCKS[0]), "--require-hashes",
        "--disable-pip", "--vulnerability-service", service, "--format", "json", "--progress-spinner", "off",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return read_answer(done.stdout)


def audit(services: Iterable[str], ask: Callable[[str], Answer | None], tell: Callable[[str], None]) -> bool:
    """Whether there are no findings, as far as anybody could be asked."""
    for service in services:
        answer = ask(service)
        if answer is None or not answer.looked_up:
            continue
        tell(
            f"{LOCKS[0]}: {answer.looked_up} packages looked up ({service}), {answer.unknown} not known there"
        )
        for finding in answer.findings:
            tell(f"FOUND {finding}")
        return not answer.findings
    tell(f"{LOCKS[0]}: NOT AUDITED, no advisory service could be reached; every package has its hashes")
    return True


def main() -> None:
    """Exit code 1 if there is something to do."""
    if find_spec("pip_audit") is None:
        sys.exit("pip-audit is not installed: make lock, and set up again")
    are_locked = True
    for lock in LOCKS:
        found, loose = pins((ROOT / lock).read_text())
        print(f"{lock}: {len(found)} packages, pinned and with hashes")
        for entry in loose:
            print(f"LOOSE {lock}: {entry}")
        are_locked = are_locked and not loose
    sys.exit(0 if audit(SERVICES, ask, print) and are_locked else 1)


if __name__ == "__main__":
    main()
