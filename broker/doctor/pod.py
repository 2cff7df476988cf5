"""The Kubernetes API, where a node would use it."""

from collections.abc import Mapping

from broker.doctor.finding import Finding, fail, ok, warn
from broker.errors import StartError
from broker.settings import KubernetesSettings
from cluster.kubernetes.environment import PodIdentity, find_pod
from cluster.kubernetes.errors import ApiError


async def check_kubernetes(kubernetes: KubernetesSettings, environ: Mapping[str, str]) -> list[Finding]:
    """Nothing where there is no Kubernetes."""
    try:
        pod, missing = find_pod(kubernetes.enabled, kubernetes.kubeconfig, environ)
        if pod is not None:
            return [await _ask(kubernetes, pod)]
    except StartError as error:
        return [fail("kubernetes", str(error), "mend it, or set kubernetes.enabled to auto")]
    return [warn("kubernetes", f"not used: {each}", "see docs/kubernetes-integration.md") for each in missing]


async def _ask(kubernetes: KubernetesSettings, pod: PodIdentity) -> Finding:
    # Not above: the package may be missing.
    from cluster.kubernetes.api import Api, Call, connect

    api = Api(connect(kubernetes.kubeconfig), kubernetes.api_timeout_seconds, lambda _verb, _code: None)
    call = Call("list", "pods", pod.namespace, query={"fieldSelector": f"metadata.name={pod.name}"})
    try:
        await api.request(call)
    except ApiError as error:
        return warn("kubernetes", str(error), f"a Role has to grant {call.rule}; a node serves without it")
    return ok("kubernetes", f"the API answers for pod {pod.namespace}/{pod.name}")
