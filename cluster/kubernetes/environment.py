"""Whether this process is in a pod, which one, and how it reaches the API: from the Downward API."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from broker.errors import StartError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
Enabled = Literal["auto", "true", "false"]


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """This pod. `uid` is empty if nobody has told it: then the name has to do."""

    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class Whereabouts:
    """Where this process runs; empty for what nobody has told it. The zone may be learned later."""

    pod_ip: str = ""
    kubernetes_node: str = ""
    zone: str = ""


def whereabouts(environ: Mapping[str, str]) -> Whereabouts:
    """Needs no API; a zone may also be told to nodes that run elsewhere."""
    return Whereabouts(
        environ.get("POD_IP", ""), environ.get("NODE_NAME", ""), environ.get("MOORLINE_ZONE", "")
    )


def find_pod(
    enabled: Enabled,
    kubeconfig: Path | None,
    environ: Mapping[str, str],
    service_account: Path = SERVICE_ACCOUNT,
) -> tuple[PodIdentity | None, list[str]]:
    """This pod, None if the API is not to be used; and what was missing for that. Raises StartError, which
    tells all mistakes, if it has to be used and can't be."""
    if enabled == "false":
        return None, []
    namespace = environ.get("POD_NAMESPACE") or _read(service_account / "namespace")
    missing = _missing(kubeconfig, environ, service_account)
    if not namespace:
        missing.append("POD_NAMESPACE is not set")
    if missing and enabled == "true":
        raise StartError("kubernetes.enabled is true, but " + "; ".join(missing))
    if missing:
        is_in_cluster = kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in environ
        return None, missing if is_in_cluster else []
    return PodIdentity(namespace, environ["POD_NAME"], environ.get("POD_UID", "")), []


def _missing(kubeconfig: Path | None, environ: Mapping[str, str], service_account: Path) -> list[str]:
    missing = []
    if find_spec("kubernetes") is None:
        missing.append("the package is not installed (pip install 'moorline[kubernetes]')")
    if not environ.get("POD_NAME"):
        missing.append("POD_NAME is not set (from the Downward API: metadata.name)")
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            missing.append(f"kubernetes.kubeconfig: there is no file {kubeconfig}")
        return missing
    missing += [
        f"{variable} is not set: this is no pod, and kubernetes.kubeconfig names no file"
        for variable in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
        if not environ.get(variable)
    ]
    missing += [
        f"there is no {service_account / name} (automountServiceAccountToken)"
        for name in ("token", "ca.crt")
        if not _read(service_account / name)
    ]
    return missing


def _read(path: Path) -> str:
    """Empty if there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
