"""By which address and with which token the API is asked."""

import datetime
from pathlib import Path

import pytest
from kubernetes.client.api_client import ApiClient
from kubernetes.config import incluster_config

from broker.errors import StartError
from cluster.kubernetes.api import Call, connect


def _headers(client: ApiClient) -> tuple[str, str]:
    """URL and token of a request."""
    path = Call("get", "leases", "n", "x").path
    _, url, headers, *_ = client.param_serialize("GET", path, auth_settings=["BearerToken"])
    found = {name.lower(): value for name, value in headers.items()}
    return url, found["authorization"]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "token").write_text("one")
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_a_pod_asks_with_its_account_whose_token_changes(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (account / "ca.crt").write_text((Path(__file__).parent / "ca.crt").read_text())
    client = connect(None)
    path = "/apis/coordination.k8s.io/v1/namespaces/n/leases/x"
    assert _headers(client) == (f"https://[fd00::1]:443{path}", "bearer one")
    (account / "token").write_text("two")

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(datetime.datetime.now(tz).timestamp() + 120)

    class Module:
        datetime, timedelta = Later, datetime.timedelta

    monkeypatch.setattr(incluster_config, "datetime", Module)
    assert _headers(client)[1] == "bearer two"


def test_an_account_that_can_not_be_read(account: Path) -> None:
    (account / "token").unlink()
    with pytest.raises(StartError, match="no connection to the Kubernetes API: Service token file"):
        connect(None)


def test_a_file_that_is_no_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no: cluster")
    with pytest.raises(StartError, match="no connection to the Kubernetes API"):
        connect(tmp_path / "config")
