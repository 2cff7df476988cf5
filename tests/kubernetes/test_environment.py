"""Whether a process is in a pod, by its variables and its service account."""

from pathlib import Path

import pytest

from broker.errors import StartError
from cluster.kubernetes import environment
from cluster.kubernetes.environment import PodIdentity, Whereabouts, find_pod, whereabouts

VARIABLES = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "POD_NAME": "moorline-0",
    "POD_UID": "u",
}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name, content in (("token", "t"), ("ca.crt", "c"), ("namespace", "mqtt\n")):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_pod(account: Path) -> None:
    assert find_pod("auto", None, VARIABLES, account) == (PodIdentity("mqtt", "moorline-0", "u"), [])
    named = VARIABLES | {"POD_NAMESPACE": "other"}
    assert find_pod("true", None, named, account) == (PodIdentity("other", "moorline-0", "u"), [])
    assert find_pod("false", None, VARIABLES, account) == (None, [])


def test_no_pod_says_nothing(tmp_path: Path) -> None:
    assert find_pod("auto", None, {}, tmp_path) == (None, [])


def test_a_pod_that_can_not_use_the_api_says_why(account: Path) -> None:
    (account / "token").unlink()
    pod, missing = find_pod("auto", None, {**VARIABLES, "POD_NAME": ""}, account)
    assert pod is None
    assert missing == [
        "POD_NAME is not set (from the Downward API: metadata.name)",
        f"there is no {account}/token (automountServiceAccountToken)",
    ]


def test_all_mistakes_are_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda _: None)
    with pytest.raises(StartError) as error:
        find_pod("true", None, {}, tmp_path)
    text = str(error.value)
    assert text.startswith("kubernetes.enabled is true, but the package is not installed")
    for each in ("POD_NAME", "POD_NAMESPACE", "KUBERNETES_SERVICE_HOST", "token", "ca.crt"):
        assert each in text
    assert "\n" not in text


def test_a_kubeconfig_takes_the_place_of_the_account(tmp_path: Path) -> None:
    named = {"POD_NAME": "p", "POD_NAMESPACE": "n"}
    with pytest.raises(StartError, match="there is no file"):
        find_pod("true", tmp_path / "config", named, tmp_path)
    (tmp_path / "config").touch()
    assert find_pod("auto", tmp_path / "config", named, tmp_path)[0] == PodIdentity("n", "p", "")


def test_where_it_runs_needs_no_api() -> None:
    assert whereabouts({}) == Whereabouts()
    given = {"POD_IP": "10.1.2.3", "NODE_NAME": "worker-1", "MOORLINE_ZONE": "eu-1a"}
    assert whereabouts(given) == Whereabouts("10.1.2.3", "worker-1", "eu-1a")
