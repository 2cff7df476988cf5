"""The broker understands what the chart writes: variables and file are loaded as `moorline serve` would."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker.settings import Settings, environment_name, load, setting_names
from broker.settings.auth import ASKING
from docs import chart
from tests.helm.chart import CASES, Manifests, Values, render, render_values
from tests.tools import make_certificate

POD = {"POD_NAME": "release-moorline-7d9c5b8f6-x2x4z", "VALKEY_PASSWORD": "pass-word"}
SECRETS = {"MOORLINE_REDIS__URL": "rediss+sentinel://r,s,t/main/0", "MOORLINE_REDIS__PREFIX": "p:"}


MOUNTED = "/etc/moorline-files"


def _load(manifests: Manifests, monkeypatch: pytest.MonkeyPatch, directory: Path) -> Settings:
    """As it is in the pod, but for the place of the mounted files."""
    files = _mount(manifests, directory)
    environment = {
        name: _expanded(value).replace(MOUNTED, str(files)) for name, value in manifests.environment.items()
    }
    environment |= {name: SECRETS[name] for name in manifests.references if name.startswith("MOORLINE_")}
    config = None
    if "MOORLINE_CONFIG" in environment:
        config = directory / "moorline.toml"
        text = _config_file(manifests, environment["MOORLINE_CONFIG"])
        config.write_text(text.replace(MOUNTED, str(files)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load({}, config)


def _mount(manifests: Manifests, directory: Path) -> Path:
    """What the kubelet would: each Secret as a directory, here with every file that anybody looks for."""
    certificate = make_certificate(directory)
    for volume in manifests.pod.get("volumes", []):
        place = directory / "files" / volume["name"]
        place.mkdir(parents=True)
        if volume["name"].endswith("tls"):
            (place / "tls.crt").write_bytes(certificate.file.read_bytes())
            (place / "tls.key").write_bytes(certificate.key.read_bytes())
        if volume["name"] == "client-ca":
            (place / "ca.crt").write_bytes(certificate.file.read_bytes())
    paths = re.findall(rf"{MOUNTED}(/\S+)", "\n".join(manifests.environment.values()))
    for path in paths:
        (directory / "files" / path[1:]).touch()
    return directory / "files"


def _expanded(value: str) -> str:
    """As the kubelet does it."""
    return re.sub(r"\$\((\w+)\)", lambda found: POD[found[1]], value)


def _config_file(manifests: Manifests, path: str) -> str:
    """What is mounted there."""
    (mount,) = (
        each for each in manifests.container["volumeMounts"] if path.startswith(each["mountPath"] + "/")
    )
    (volume,) = (each for each in manifests.pod["volumes"] if each["name"] == mount["name"])
    data = manifests.one("ConfigMap", volume["configMap"]["name"])["data"]
    text: str = data[path.removeprefix(mount["mountPath"] + "/")]
    return text


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_a_start(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests = render(case)
    settings = _load(manifests, monkeypatch, tmp_path)
    assert settings.node.name == POD["POD_NAME"]
    assert settings.node.allow_anonymous != settings.auth.asks
    if manifests.environment["MOORLINE_NODE__LISTEN"] != "off":
        assert {address.port for address in settings.node.listen} == {1883}
    assert settings.redis.url


def test_the_password_of_the_small_valkey_is_in_the_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = _load(render("trial-password"), monkeypatch, tmp_path)
    assert settings.redis.url == "redis://:pass-word@release-moorline-valkey:6379/0"


def test_values_arrive_as_they_were_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = _load(render("config"), monkeypatch, tmp_path)
    assert settings.mqtt.maximum_packet_size == 268_435_460
    assert settings.mqtt.session_expiry_maximum_seconds == 4_294_967_295
    assert settings.redis.exchange_timeout_seconds == 2.5
    assert settings.redis.prefix == "p:"
    assert settings.cluster.server_reference == 'mqtt.example:1883 "<&>"'
    assert settings.cluster.drain_clients_per_second == 0.5
    assert settings.session.queue_policy == "drop_new"


def test_the_file_has_the_values_of_config() -> None:
    values: dict[str, Any] = {
        "session": {"queue_limit": 10_000_000, "queue_policy": "drop_new"},
        "node": {"log_level": "error", "backlog": 1},
        "cluster": {"server_reference": 'a "quoted" \\ line: ä <&>', "drain_clients_per_second": 1e-7},
        "limits": {"outbound_buffer_bytes": 1_073_741_824},
    }
    manifests = render_values({"config": values})
    assert tomllib.loads(_config_file(manifests, manifests.environment["MOORLINE_CONFIG"])) == values


def test_lists_and_tables_are_written_too() -> None:
    """No setting is one yet."""
    values = {"cluster": {"server_reference": {"a": [1, 2.5, "x"], "b": {"c": True}}}}
    manifests = render_values({"config": values})
    assert tomllib.loads(_config_file(manifests, manifests.environment["MOORLINE_CONFIG"])) == values


def test_what_a_broker_on_the_internet_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = _load(render("secured"), monkeypatch, tmp_path)
    files = tmp_path / "files"
    assert settings.node.listen == ()
    tls, web = settings.listeners["tls"], settings.listeners["web"]
    assert (str(tls.address), str(web.address)) == ("mqtts://0.0.0.0:8883", "wss://0.0.0.0:8084/mqtt")
    assert web.handshake_timeout_seconds == 5
    assert {tls.certificate, web.certificate} == {files / "tls" / "tls.crt"}
    assert (tls.client_ca, tls.client_certificates) == (files / "client-ca" / "ca.crt", "required")
    assert settings.auth.password_file == files / "users" / "passwords"
    assert settings.auth.jwt_keys == files / "jwt-keys" / "keys.toml"
    assert settings.auth.rules_file == files / "rules" / "rules.toml"
    assert settings.admin.tokens_file == files / "admin-tokens" / "tokens"
    assert settings.admin.key == files / "admin-tls" / "tls.key"
    assert settings.redis.password_file == files / "redis-password" / "password"
    assert settings.redis.ca_file == files / "redis-ca" / "ca.crt"
    assert (settings.redis.username, settings.limits.connections_maximum) == ("moorline", 20_000)


def test_sentinels_and_their_own_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = _load(render("sentinel"), monkeypatch, tmp_path)
    assert settings.redis.sentinel_password_file == tmp_path / "files" / "sentinel-password" / "password"
    assert (settings.redis.sentinel_username, settings.redis.password_file) == ("moorline", None)


def test_each_address_to_listen_on_has_its_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listeners = _load(render("cert-manager"), monkeypatch, tmp_path).listeners
    assert {name: str(listener.address) for name, listener in listeners.items()} == {
        "tls": "mqtts://0.0.0.0:8883",
        "tls-2": "mqtts://[::]:8883",
    }


def test_settings_of_a_listener_win() -> None:
    settings = {"certificate": "/own/tls.crt", "key": "/own/tls.key", "mount_point": "a"}
    values: Values = {
        "listeners": {"a": {"scheme": "mqtts", "port": 8883, "settings": settings}},
        "tls": {"clientCA": {"secretName": "authorities", "crlKey": "crl.pem"}},
    }
    manifests = render_values(values)
    text = _config_file(manifests, manifests.environment["MOORLINE_CONFIG"])
    table = {
        "address": "mqtts://0.0.0.0:8883",
        "client_ca": f"{MOUNTED}/client-ca/ca.crt",
        "crl": f"{MOUNTED}/client-ca/crl.pem",
    }
    assert tomllib.loads(text)["listeners"]["a"] == table | settings


def test_what_asks_clients_is_what_the_broker_says() -> None:
    """Each of these makes allowAnonymous unnecessary."""
    text = (chart.CHART / "templates" / "_access.tpl").read_text()
    (found,) = re.findall(r"\$asking := list (.*?) -}}", text)
    assert set(re.findall(r'"(\w+)"', found)) == set(ASKING)


def test_the_schema_knows_every_setting() -> None:
    groups = chart.config_schema()["properties"]
    tables = {group for group, schema in groups.items() if "properties" not in schema}  # by names of users
    assert tables == {"forwards"}
    known = {f"{group}.{field}" for group in groups.keys() - tables for field in groups[group]["properties"]}
    assert known == set(setting_names())


def test_the_schema_leaves_to_the_templates_what_these_refuse() -> None:
    checks = (chart.CHART / "templates" / "_checks.tpl").read_text()
    _, _, owned = checks.partition("$owned := dict")
    owned, _, _ = owned.partition("-}}")
    assert set(re.findall(r'"([a-z]+\.[a-z_]+)" "', owned)) == set(chart.OWNED)


def test_a_setting_from_a_secret() -> None:
    values: Values = {"secretConfig": [{"setting": "session.queue_limit", "secretName": "s", "key": "k"}]}
    reference = render_values(values).references[environment_name("session.queue_limit")]
    assert reference == {"secretKeyRef": {"name": "s", "key": "k"}}


def test_variables_win_over_the_file_so_they_are_no_settings_of_config() -> None:
    """Every variable that the chart sets is refused in `config`, and said where it comes from."""
    ours = {name for name in render("minimal").environment if name.startswith("MOORLINE_")}
    ours |= {name for name in render("minimal").references if name.startswith("MOORLINE_")}
    refused = (chart.CHART / "templates" / "_checks.tpl").read_text()
    known = {environment_name(setting): setting for setting in setting_names()}
    assert ours - {"MOORLINE_ADMIN_URL"} <= set(known)
    for name in ours - {"MOORLINE_ADMIN_URL"}:
        assert f'"{known[name]}"' in refused
