"""What is said of Kubernetes."""

import anyio

from broker.doctor.finding import Level
from broker.doctor.pod import check_kubernetes
from broker.settings import load


def levels(enabled: str, **environ: str) -> list[Level]:
    """Of what is found."""
    settings = load({"kubernetes": {"enabled": enabled}})
    return [each.level for each in anyio.run(check_kubernetes, settings.kubernetes, environ)]


def test_nothing_outside_of_it() -> None:
    assert levels("auto") == []
    assert levels("false", KUBERNETES_SERVICE_HOST="10.0.0.1") == []


def test_a_pod_that_lacks_something() -> None:
    assert set(levels("auto", KUBERNETES_SERVICE_HOST="10.0.0.1")) == {Level.WARN}
    assert levels("true") == [Level.FAIL]
