"""Forwards in the settings: tables of their own, with all mistakes told at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.settings import dump, load, restore
from broker.settings.forwards import overlap
from broker.settings.shown import shown_settings

WEBHOOK = {"kind": "webhook", "url": "https://example.com/hook?secret=1", "topics": ["a/#"]}
BRIDGE = {"kind": "mqtt", "url": "mqtt://example.com", "version": "3.1.1"}


def _mistakes(**forwards: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as refused:
        load({"forwards": forwards})
    return str(refused.value)


def test_they_come_from_a_file_and_from_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "moorline.toml"
    file.write_text('[forwards.one]\nkind = "webhook"\nurl = "https://example.com"\ntopics = ["a", "b/+"]\n')
    monkeypatch.setenv("MOORLINE_FORWARDS__ONE__BATCH", "10")
    monkeypatch.setenv("MOORLINE_FORWARDS__TWO__KIND", "redis_stream")
    monkeypatch.setenv("MOORLINE_FORWARDS__TWO__STREAM", "events")
    monkeypatch.setenv("MOORLINE_FORWARDS__TWO__TOPICS", "x/#, y")
    forwards = load(config=file).forwards
    assert (forwards["one"].topics, forwards["one"].batch) == (("a", "b/+"), 10)
    assert (forwards["two"].topics, forwards["two"].stream) == (("x/#", "y"), "events")


def test_the_url_of_a_webhook_is_not_shown() -> None:
    assert shown_settings(load({"forwards": {"it": WEBHOOK}}))["forwards.it"]["url"].is_hidden


def test_a_worker_gets_them_from_its_parent() -> None:
    settings = load({"forwards": {"one": WEBHOOK, "two": BRIDGE | {"in_topics": ["x"]}}})
    assert restore(json.loads(json.dumps(dump(settings)))).forwards == settings.forwards


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"kind": "webhook"}, "url is missing; nothing is forwarded: topics"),
        (WEBHOOK | {"kind": "pigeon"}, "'pigeon': Input should be"),
        (WEBHOOK | {"url": "ftp://example.com"}, "begins neither with https:// nor with http://"),
        (WEBHOOK | {"url": "https://me:secret@example.com"}, "have settings of their own"),
        (WEBHOOK | {"url": "https://example.com:0/"}, "port 0"),
        (WEBHOOK | {"url": "https://[secret"}, "not a URL"),
        (WEBHOOK | {"topics": ["a/#/b"]}, "'a/#/b' is not a Topic Filter"),
        (WEBHOOK | {"topics": ["$share/g/a"]}, "not a Topic Filter that can be forwarded"),
        (WEBHOOK | {"topics": ["a", "a"]}, "the same filter is there twice"),
        (WEBHOOK | {"stream": "s"}, "stream is not for kind 'webhook'"),
        (WEBHOOK | {"headers_file": "/nowhere"}, "/nowhere: No such file"),
        (WEBHOOK | {"certificate": "/nowhere"}, "certificate and key need each other"),
        (WEBHOOK | {"url": "http://example.com", "ca_file": "/x"}, "ca_file is for TLS"),
        ({"kind": "redis_stream", "topics": ["a"]}, "stream is missing"),
        ({"kind": "redis_stream", "topics": ["a"], "stream": "mq:x"}, "stream begins with mq:"),
        ({"kind": "plugin", "topics": ["a"]}, "sink is missing"),
        (BRIDGE, "nothing is forwarded: topics, in_topics"),
        (BRIDGE | {"topics": ["a"], "url": "mqtt://example.com/x"}, "nothing behind it"),
        (BRIDGE | {"topics": ["a"], "password_file": __file__}, "password_file needs username"),
        (BRIDGE | {"topics": ["a"], "add_prefix": "+/"}, "no topic begins with that"),
        (BRIDGE | {"topics": ["a/#"], "in_topics": ["a/b"]}, "a loop: 'a/#' goes there"),
        (
            BRIDGE | {"topics": ["a/#"], "add_prefix": "x/", "in_topics": ["x/#"], "in_strip_prefix": "x/"},
            "a loop",
        ),
    ],
)
def test_a_mistake_is_told_without_the_url(fields: dict[str, Any], mistake: str) -> None:
    told = _mistakes(it=fields)
    assert mistake in told
    assert "secret" not in told


def test_all_mistakes_are_told_at_once() -> None:
    told = _mistakes(one={"kind": "webhook", "qos": 3}, two=WEBHOOK | {"urll": "x"})
    assert "forwards.one.qos" in told
    assert "forwards.two.urll" in told


@pytest.mark.parametrize(
    "fields",
    [
        BRIDGE | {"topics": ["a/#"], "in_topics": ["b/#"]},
        BRIDGE | {"topics": ["a/#"], "add_prefix": "x/", "in_topics": ["a/#"]},
        BRIDGE | {"topics": ["a/#"], "in_topics": ["a/#"], "in_add_prefix": "x/"},
        BRIDGE | {"topics": ["a/#"], "in_topics": ["a/#"], "version": "5.0"},
    ],
)
def test_what_does_not_come_back_is_no_loop(fields: dict[str, Any]) -> None:
    assert load({"forwards": {"it": fields}}).forwards["it"].in_topics


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "+/b", True),
        ("#", "x/y/z", True),
        ("a/#", "a", True),
        ("a/b", "a", False),
        ("a/+/c", "a/b", False),
        ("a/#", "b/#", False),
    ],
)
def test_filters_overlap_if_a_topic_matches_both(one: str, other: str, do: bool) -> None:
    assert overlap(one, other) is do
    assert overlap(other, one) is do
