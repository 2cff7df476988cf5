"""Each scenario for a moment against a node, over each way to it; and what scenarios find at a bad broker."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import uvloop
from typer.testing import CliRunner

from loadtest.cli import app
from loadtest.conductor import Conductor, LoadFailed
from loadtest.cost import Pids
from loadtest.plan import Plan, Shape, Sleep, Storm, Viewing
from loadtest.report import MessageReport
from loadtest.returns import ReturnReport
from loadtest.scenario import check_draft, find_source, make_draft, make_plan
from loadtest.target import Scheme, Security, Target
from tests.listeners.conftest import Listening, listener_environment, listening
from tests.loadtest.fake_broker import FakeBroker
from tests.node.harness import running_node
from tests.tools import make_certificate

BRIEF = ("duration_seconds=0.4", "warm_up_seconds=0.1", "drain_seconds=3")
SMALL = {
    "pairs": ("pairs=3",),
    "fan-in": ("publishers=4",),
    "fan-out": ("subscribers=5",),
    "shared-group": ("publishers=3", "members=4", "rate_per_second=300"),
    "telemetry": ("devices=20", "rate_per_device=10"),
    "commands": ("devices=20", "cycle_seconds=0.3", "asleep_percent=60"),
    "reconnect-storm": ("clients=20", "every_seconds=0.3"),
    "retained-dashboard": ("topics=250", "dashboards=3", "view_seconds=0.2"),
}
"""So that a run takes a second."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """A node with listeners of each kind."""
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    environment = listener_environment(certificate) | {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield listening(node, certificate)


def run(name: str, broker: str, *settings: str) -> MessageReport:
    """A scenario that comes with the program, at another address and with other values."""
    draft = make_draft(find_source(name), [*BRIEF, *SMALL[name], f'target.brokers=["{broker}"]', *settings])
    plan = make_plan(check_draft(draft), draft, owned=False, run_id=name[:3])
    return conduct(plan)


def conduct(plan: Plan) -> MessageReport:
    """A plan on an event loop of its own."""
    return uvloop.run(Conductor(plan, Pids(), lambda *_: None).run())


@pytest.mark.parametrize("name", SMALL)
def test_a_scenario(at: Listening, name: str) -> None:
    report = run(name, f"127.0.0.1:{at.node.port}")
    assert report.problems() == []
    assert (report.lost, report.duplicates, report.order_errors) == (0, 0, 0)
    assert report.deliveries > 20
    assert (report.returns is not None) is (name in ("commands", "reconnect-storm"))
    assert report.machine is None
    assert (report.views is not None) is (name == "retained-dashboard")


def test_mqtt_3_1_does_not_say_whether_there_was_a_session(at: Listening) -> None:
    report = run("commands", f"127.0.0.1:{at.node.port}", "mqtt_version=3")
    assert report.problems() == []
    assert isinstance(report.returns, ReturnReport)
    assert report.returns.count > 0


@pytest.mark.parametrize("kind", ["mqtts", "ws", "wss"])
def test_over_tls_and_websocket(at: Listening, kind: str) -> None:
    """With large payloads, too, which take several reads."""
    port = {"mqtts": at.tls, "ws": at.ws, "wss": at.wss}[kind]
    trust = f"target.ca_file={at.certificate.file}"
    report = run("pairs", f"{kind}://localhost:{port}", trust, "payload_bytes=100_000", "mqtt_version=5")
    assert report.problems() == []
    assert report.deliveries > 20


def test_a_certificate_that_nobody_vouches_for(at: Listening) -> None:
    with pytest.raises(LoadFailed, match="certificate verify failed"):
        run("pairs", f"mqtts://localhost:{at.tls}")
    assert run("pairs", f"mqtts://localhost:{at.tls}", "target.insecure=true").problems() == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ws://127.0.0.1:{ws}/other", "received 404"),
        ("ws://127.0.0.1:{tcp}", "closed before it answered the request"),
        ("mqtts://127.0.0.1:{tcp}", r"mqtts://127\.0\.0\.1:\d+: \w+"),
    ],
)
def test_what_does_not_listen_there(at: Listening, address: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        run("pairs", address.format(ws=at.ws, tcp=at.node.port), "target.insecure=true")


def test_members_of_a_group_in_several_processes(at: Listening) -> None:
    settings = ("processes=2", "qos=2", "drain_seconds=0.7")
    report = run("shared-group", f"127.0.0.1:{at.node.port}", *settings)
    assert report.problems() == []
    assert (report.processes, report.lost, report.duplicates) == (2, 0, 0)
    assert report.deliveries == report.sent > 100


def test_the_commands(at: Listening) -> None:
    """As an operator runs them; clients are spread over two addresses, and come back to the other one."""
    brokers = ("--broker", f"127.0.0.1:{at.node.port}", "--broker", f"ws://127.0.0.1:{at.ws}")
    values = [part for value in (*BRIEF, *SMALL["reconnect-storm"]) for part in ("--set", value)]
    arguments = ["run", "reconnect-storm", *brokers, *values, "--mqtt-version", "5", "--json", "-"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    answer = orjson.loads(result.stdout)
    assert answer["scenario"] == "reconnect-storm"
    assert answer["report"]["returns"]["count"] >= 20
    assert answer["report"]["mqtt_version"] == 5
    assert "came back" in result.stderr


def test_scenarios_are_listed_and_printed() -> None:
    listed = CliRunner().invoke(app, ["scenarios"])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == sorted(SMALL)
    printed = CliRunner().invoke(app, ["scenarios", "commands"])
    assert printed.stdout == find_source("commands").text


def test_a_mistake_ends_it_with_2() -> None:
    result = CliRunner().invoke(app, ["run", "pairs", "--set", "pears=3", "--broker", "192.0.2.1"])
    assert result.exit_code == 2
    assert (
        result.stderr
        == "loadtest: pairs can't be run:\n  --set pears: pears: no such key, did you mean pairs?\n"
    )


async def _at_strict_broker(plan: Plan, context: ssl.SSLContext, security: Security) -> MessageReport:
    async with FakeBroker().serving(context) as at:
        target = Target(at.host, at.port, Scheme.MQTTS, name="localhost", security=security)
        return await Conductor(replace(plan, target=target), Pids(), lambda *_: None).run()


def test_a_broker_that_asks_for_a_certificate(tmp_path: Path) -> None:
    own = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(own.file))
    context.load_cert_chain(own.file, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    plan = replace(FORGETFUL, persistent=False)
    shown = Security(str(own.file), str(own.file), str(own.key))
    assert uvloop.run(_at_strict_broker(plan, context, shown)).deliveries > 20
    with pytest.raises(LoadFailed):
        uvloop.run(_at_strict_broker(plan, context, Security(str(own.file))))


FORGETFUL = Plan(
    target=Target("127.0.0.1", 1),
    run_id="test",
    qos=1,
    persistent=True,
    rate_per_second=200,
    duration_seconds=0.3,
    warm_up_seconds=0,
    drain_seconds=0.3,
)


async def _at_fake_broker(plan: Plan) -> MessageReport:
    async with FakeBroker().serving() as target:
        return await Conductor(replace(plan, target=target), Pids(), lambda *_: None).run()


def test_a_broker_that_keeps_no_sessions_is_found_out() -> None:
    """By the storm and by the devices that sleep."""
    for shape, habit in ((Shape.STORM, Storm(1, 0.1, 10)), (Shape.COMMANDS, Sleep(50, 0.2))):
        plan = replace(FORGETFUL, shape=shape, subscribers=4, habit=habit)
        report = uvloop.run(_at_fake_broker(plan))
        assert isinstance(report.returns, ReturnReport)
        assert report.returns.count == report.returns.sessions_gone >= 4
        assert report.lost > 0
        assert any("sessions were gone" in problem for problem in report.problems())


def test_a_broker_that_retains_nothing_is_found_out() -> None:
    plan = replace(FORGETFUL, shape=Shape.DASHBOARD, persistent=False, habit=Viewing(100, 1))
    report = uvloop.run(_at_fake_broker(plan))
    assert "1 dashboards didn't get all topics" in report.problems()
    assert report.lost > 20


def test_a_group_whose_members_all_get_everything_is_found_out() -> None:
    """The fake broker knows no groups: it takes the filter as it stands, and delivers nothing."""
    plan = replace(FORGETFUL, shape=Shape.SHARED, subscribers=2, publishers=2, persistent=False)
    report = uvloop.run(_at_fake_broker(plan))
    assert report.lost == report.sent > 20
