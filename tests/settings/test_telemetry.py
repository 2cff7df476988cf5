"""Settings of the group `telemetry`."""

from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import load


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"otlp_url": "collector:4318"}, "begins neither with https://"),
        ({"otlp_url": "file:///etc/passwd"}, "begins neither with https://"),
        ({"otlp_url": "http://[x"}, "not a URL"),
        ({"otlp_url": "http://a/ b"}, "no URL in ASCII"),
        ({"otlp_url": "http://a:0/"}, "port 0"),
        ({"otlp_url": "http://u:hush@a/"}, "its place in telemetry.headers_file"),
        ({"headers_file": "/nowhere"}, "No such file"),
        ({"ca_file": "/nowhere"}, "No such file"),
        ({"service_name": ""}, "service_name"),
        ({"spans_per_second": 0}, "spans_per_second"),
    ],
)
def test_mistakes(given: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError) as error:
        load({"telemetry": given})
    assert reason in str(error.value)
    assert "hush" not in str(error.value)


def test_what_is_taken(tmp_path: Path) -> None:
    assert load({}).telemetry.otlp_url is None
    assert load({"telemetry": {"otlp_url": ""}}).telemetry.otlp_url is None
    given = {"otlp_url": "https://otel.example:4318/v1/traces", "ca_file": str(tmp_path)}
    with pytest.raises(SettingsError):  # it is a directory
        load({"telemetry": given})
    (tmp_path / "ca.pem").write_text("")
    settings = load({"telemetry": given | {"ca_file": str(tmp_path / "ca.pem")}})
    assert settings.telemetry.otlp_url == given["otlp_url"]
