"""Clients of a test: the two halves of a flow, on one node or on different ones."""

from dataclasses import dataclass
from types import TracebackType

from broker.mqtt import MQTT_5, Properties, Publish, Will
from tests.node.wire import WireClient, connected

KEPT_SECONDS = 3600
_ATTEMPTS = 100
_ATTEMPT_SECONDS = 0.05


@dataclass(frozen=True)
class Cluster:
    """The ports of the nodes that the halves of a flow are on."""

    near: int
    far: int

    @property
    def is_one_node(self) -> bool:
        return self.near == self.far


class Flow:
    """Makes connected clients, whose identifiers and topics no other test uses; closes them at the end."""

    def __init__(self, cluster: Cluster, version: int, prefix: str) -> None:
        self.cluster = cluster
        self.version = version
        self._prefix = prefix
        self._opened: list[WireClient] = []

    def __enter__(self) -> "Flow":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._opened:
            opened.close()

    @property
    def is_mqtt_5(self) -> bool:
        return self.version == MQTT_5

    def name(self, suffix: str = "") -> str:
        """A Client Identifier or Topic Name of this test."""
        return f"{self._prefix}/{suffix}" if suffix else self._prefix

    def raw(self, *, far: bool = False, version: int | None = None) -> WireClient:
        """One that has sent nothing."""
        port = self.cluster.far if far else self.cluster.near
        opened = WireClient(port, version or self.version)
        self._opened.append(opened)
        return opened

    def near(
        self,
        suffix: str = "near",
        *,
        keeps: bool = False,
        clean_start: bool | None = None,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> WireClient:
        """A client that has been accepted. `keeps`: its session outlives the connection. Unless
        `clean_start` is given, such a session goes on, and another one begins."""
        return self._connected(self.cluster.near, suffix, keeps, clean_start, keep_alive, will, properties)

    def far(
        self,
        suffix: str = "far",
        *,
        keeps: bool = False,
        clean_start: bool | None = None,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> WireClient:
        """The same on the other half."""
        return self._connected(self.cluster.far, suffix, keeps, clean_start, keep_alive, will, properties)

    def until_mark(self, publisher: WireClient, subscriber: WireClient) -> list[Publish]:
        """What the subscriber gets before a mark that is published now, at QoS 1; it must have subscribed to
        `name("mark")`, or to a filter that matches it."""
        mark = self.name("mark")
        publisher.publish(mark, b"mark", 1)
        before: list[Publish] = []
        while (message := subscriber.message()).topic != mark:
            before.append(message)
        return before

    def open_way(self, publisher: WireClient, subscriber: WireClient, topic: str) -> None:
        """Returns when messages at QoS 0 get from one to the other: other nodes may hear of a subscription
        at QoS 0 a moment after its SUBACK."""
        for number in range(_ATTEMPTS):
            publisher.publish(topic, str(number).encode())
            if subscriber.poll(_ATTEMPT_SECONDS) is not None:
                break
        publisher.publish(topic, b"open")
        while subscriber.expect(Publish).payload != b"open":
            pass

    def _connected(
        self,
        port: int,
        suffix: str,
        keeps: bool,
        clean_start: bool | None,
        keep_alive: int,
        will: Will | None,
        properties: Properties | None,
    ) -> WireClient:
        if self.is_mqtt_5:
            properties = properties or Properties()
            if keeps and properties.session_expiry_interval is None:
                properties.session_expiry_interval = KEPT_SECONDS
        opened = connected(
            port,
            self.name(suffix),
            self.version,
            clean_start=not keeps if clean_start is None else clean_start,
            keep_alive=keep_alive,
            will=will,
            properties=properties if self.is_mqtt_5 else None,
        )
        self._opened.append(opened)
        return opened
