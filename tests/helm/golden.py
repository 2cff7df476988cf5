"""Writes the golden output anew: `python -m tests.helm.golden`. Read the diff before committing it."""

from tests.helm.chart import CASES, GOLDEN, kube_version, render_text


def golden_text(case: str) -> str:
    """What is committed: as helm prints it, without spaces at the ends of lines."""
    lines = render_text(case, kube_version(case)).splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def main() -> None:
    """Write one file per case, and remove those of cases that are gone."""
    for path in GOLDEN.glob("*.yaml"):
        path.unlink()
    for case in CASES:
        (GOLDEN / f"{case}.yaml").write_text(golden_text(case))


if __name__ == "__main__":
    main()
