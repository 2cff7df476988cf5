"""Coverage-guided fuzzing by atheris: `make fuzz ARGS="--seconds 3600"`.

Begins with the seeds, the saved corpus and what is in build/fuzz/corpus from earlier runs. An input at which
something fails is written to build/fuzz and ends the run with an exit code; `--input FILE` tries it again.
`--only JSKH` tries some targets, by their letters. `--save` fuzzes nothing: it puts what was found, as far as
it goes new ways, into the saved corpus.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # untyped, and not for all machines

# Before the others: the finder that it may bring must not be asked sooner than that of atheris.
from broker import build_mode

with atheris.instrument_imports(
    include=["broker.auth", "broker.listeners", "broker.mqtt", "broker.routing", "cluster.store", "jwt"]
):
    from tests.fuzz import inputs
    from tests.fuzz.target import one_input


def main() -> None:
    """Does what the arguments say; fuzzing never returns."""
    arguments = _arguments()
    if build_mode() != "pure":
        sys.exit("the broker is compiled: there is no coverage to be led by")
    directory: Path = arguments.directory
    found = directory / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    letters = arguments.only.encode() or bytes(range(256))

    def is_tried(data: bytes) -> bool:
        return data[:1] in letters

    if arguments.input is not None:
        one_input(arguments.input.read_bytes())
    elif arguments.save:
        chosen = inputs.smallest([*inputs.saved(), *(file.read_bytes() for file in found.iterdir())])
        inputs.save(chosen)
        print(f"{len(chosen)} inputs in {inputs.SAVED}")
    else:
        for data in filter(is_tried, inputs.seeds() + inputs.saved()):
            (found / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
        atheris.Setup(
            [sys.argv[0], *_options(arguments, directory), str(found)],
            lambda data: one_input(data) if is_tried(data) else None,
        )
        atheris.Fuzz()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=-1, help="inputs, in place of seconds")
    parser.add_argument("--seed", type=int, default=0, help="0 for another one each time")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--input", type=Path)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--only", default="", metavar="LETTERS", help="targets to try, in place of all")
    return parser.parse_args()


def _options(arguments: argparse.Namespace, directory: Path) -> list[str]:
    """For libFuzzer."""
    return [
        f"-max_total_time={arguments.seconds if arguments.runs < 0 else 0}",
        f"-runs={arguments.runs}",
        f"-seed={arguments.seed}",
        f"-max_len={inputs.LONGEST}",
        f"-artifact_prefix={directory}/",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]


if __name__ == "__main__":
    main()
