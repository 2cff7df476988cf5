"""The broker understands what the chart writes: variables and file are loaded as `moorline serve` would."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker.settings import Settings, environment_name, load, setting_names
from docs import chart
from tests.helm.chart import CASES, Manifests, Values, render, render_values

POD = {"POD_NAME": "release-moorline-7d9c5b8f6-x2x4z", "VALKEY_PASSWORD": "pass-word"}
SECRETS = {"MOORLINE_REDIS__URL": "redis://r:6379/0", "MOORLINE_REDIS__PREFIX": "p:"}


def _load(manifests: Manifests, monkeypatch: pytest.MonkeyPatch, directory: Path) -> Settings:
    """As it is in the pod."""
    environment = {name: _expanded(value) for name, value in manifests.environment.items()}
    environment |= {name: SECRETS[name] for name in manifests.references if name.startswith("MOORLINE_")}
    config = None
    if "MOORLINE_CONFIG" in environment:
        config = directory / "moorline.toml"
        config.write_text(_config_file(manifests, environment["MOORLINE_CONFIG"]))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load({}, config)


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
    assert settings.node.allow_anonymous
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


def test_the_schema_knows_every_setting() -> None:
    groups = chart.config_schema()["properties"]
    known = {f"{group}.{field}" for group, schema in groups.items() for field in schema["properties"]}
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
