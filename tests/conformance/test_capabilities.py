"""What a server need not support: a node where the operator has switched it off [MQTT 5: 3.2.2.3]."""

import pytest

from broker.mqtt import MQTT_5, Connack, Connect, Publish, ReasonCode, Will
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow


@v5("3.2.2-9", "3.2.2-10")
def test_maximum_qos(strict_flow: Flow) -> None:
    """It is told; subscriptions at QoS 2 are still accepted."""
    client = strict_flow.raw()
    connack = client.connect(strict_flow.name("s"))
    assert connack.properties is not None
    assert connack.properties.maximum_qos == 1
    assert client.subscribe(strict_flow.name("t"), qos=2).reason_codes[0] < 0x80
    strict_flow.far("publisher").publish(strict_flow.name("t"), b"x", 1)
    assert client.message().qos == 1


@v5("3.2.2-11")
def test_publish_above_the_maximum_qos(strict_flow: Flow) -> None:
    client = strict_flow.near()
    client.send(Publish(strict_flow.name("t"), b"x", 2, False, False, 1))
    assert client.wait_refused() == ReasonCode.QOS_NOT_SUPPORTED


@v5("3.2.2-14")
def test_publish_with_retain(strict_flow: Flow) -> None:
    client = strict_flow.near()
    client.send(Publish(strict_flow.name("t"), b"x", 1, True, False, 1))
    assert client.wait_refused() == ReasonCode.RETAIN_NOT_SUPPORTED


@v5("3.2.2-12", "3.2.2-13", "3.2.2-7")
@pytest.mark.parametrize(
    ("qos", "retain", "code"),
    [(2, False, ReasonCode.QOS_NOT_SUPPORTED), (1, True, ReasonCode.RETAIN_NOT_SUPPORTED)],
)
def test_will_that_is_not_supported(strict_flow: Flow, qos: int, retain: bool, code: ReasonCode) -> None:
    client = strict_flow.raw()
    will = Will(strict_flow.name("will"), b"", qos, retain)
    client.send(Connect(strict_flow.name("s"), MQTT_5, True, 0, will=will))
    (connack,) = client.wait_closed()
    assert isinstance(connack, Connack)
    assert (connack.session_present, connack.reason_code) == (False, code)


@v3("3.3.5-2")
@pytest.mark.parametrize(("qos", "retain"), [(2, False), (1, True), (0, True)])
def test_publish_that_is_not_allowed_before_mqtt_5(strict_flow: Flow, qos: int, retain: bool) -> None:
    """There is no word for it: the connection is closed, and nobody gets the message."""
    watcher = strict_flow.far("watcher")
    watcher.subscribe(strict_flow.name("t"), strict_flow.name("mark"), qos=1)
    client = strict_flow.near()
    client.send(Publish(strict_flow.name("t"), b"x", qos, retain, False, 1 if qos else 0))
    assert client.wait_closed() == []
    assert strict_flow.until_mark(strict_flow.far("publisher"), watcher) == []


@v3("3.8.3-2")
def test_wildcards_that_are_not_supported_before_mqtt_5(strict_flow: Flow) -> None:
    client = strict_flow.near()
    codes = client.subscribe(strict_flow.name("#"), strict_flow.name("+"), strict_flow.name("t")).reason_codes
    assert codes == [0x80, 0x80, 0]
