"""The pods of a broker on Kubernetes: who they are, and how to kill one. For a test that is in a pod itself.

Three requests by HTTP, with the account that Kubernetes gives a pod; no client library is needed for that.
"""

import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtest.target import Target

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ANSWER_SECONDS: Final = 10.0
_PORT_NAME: Final = "mqtt"


class PodsError(Exception):
    """The API server can't be asked, or says no; the message says why."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that serves."""

    name: str
    uid: str
    target: Target


class Pods:
    """The API server, for the pods of one namespace."""

    def __init__(self, url: str, namespace: str, token: str, context: ssl.SSLContext | None) -> None:
        self._url = f"{url}/api/v1/namespaces/{namespace}/pods"
        self._token = token
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]  # never through one
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    @classmethod
    def of_this_pod(cls, account: Path = _ACCOUNT, environment: Mapping[str, str] | None = None) -> "Pods":
        """As the account of the pod that this process runs in. Raises PodsError."""
        environment = os.environ if environment is None else environment
        try:
            host = environment["KUBERNETES_SERVICE_HOST"]
            port = environment["KUBERNETES_SERVICE_PORT"]
            token = (account / "token").read_text()
            namespace = (account / "namespace").read_text().strip()
            context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except (KeyError, OSError) as error:
            raise PodsError(f"this is no pod with an account of Kubernetes: {error} is missing") from error
        return cls(f"https://{Target(host, int(port))}", namespace, token, context)

    def ready(self, selector: str) -> list[Pod]:
        """The pods with these labels that are ready, by name. Raises PodsError."""
        answer = self._request("GET", "?" + urllib.parse.urlencode({"labelSelector": selector}))
        found = (ready_pod(item) for item in answer["items"])
        return sorted((pod for pod in found if pod is not None), key=lambda pod: pod.name)

    def kill(self, pod: Pod) -> None:
        """End it at once, without a drain. Not one that has taken its name. Raises PodsError."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        self._request("DELETE", f"/{urllib.parse.quote(pod.name)}", options)

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Accept", "application/json")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=_ANSWER_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise PodsError(f"{method} of pods was refused: {error.code} {error.reason}") from None
        except (OSError, ValueError) as error:
            raise PodsError(f"{method} of pods: {error}") from None
        return answer


def ready_pod(item: dict[str, Any]) -> Pod | None:
    """A pod as the API has it, if it is ready and has a port for MQTT."""
    metadata, status = item["metadata"], item.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    if metadata.get("deletionTimestamp") or conditions.get("Ready") != "True":
        return None
    ports = [
        port["containerPort"]
        for container in item["spec"]["containers"]
        for port in container.get("ports", [])
        if port.get("name") == _PORT_NAME
    ]
    if not ports:
        return None
    return Pod(metadata["name"], metadata["uid"], Target(status["podIP"], ports[0]))
