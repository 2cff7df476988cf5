"""From the session of a forward to its sink: in order, acknowledged when the sink has taken it."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from broker.forwarding.inner import Inner
from broker.forwarding.sink import ForwardedMessage, Refused, Retry, Sink
from broker.mqtt import Packet, Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.observability.forwards import ForwardStatus
from broker.observability.logs import get_logger
from cluster.kubernetes.backoff import Backoff

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """As in the settings."""

    batch: int
    timeout_seconds: float
    retry_seconds_maximum: float
    refused_tries: int


class Delivery:
    """Of one forward, as long as this node has its session. `drop` writes a dead letter: topic, reason."""

    def __init__(
        self,
        inner: Inner,
        sink: Sink,
        rules: DeliveryRules,
        status: ForwardStatus,
        drop: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._inner = inner
        self._sink = sink
        self._rules = rules
        self._status = status
        self._drop = drop
        self._pending: deque[Publish] = deque()

    async def run(self) -> None:
        """Until cancelled, or the session is lost: LinkLost."""
        while True:
            if not self._pending:
                self._take(await self._inner.receive())
            elif len(self._pending) < self._rules.batch:
                self._take(self._inner.receive_now())
            batch = [self._pending[place] for place in range(min(self._rules.batch, len(self._pending)))]
            messages = [self._message(publish) for publish in batch]
            if len(batch) == 1:
                await self._deliver_alone(batch[0], messages[0])
            elif batch:
                await self._deliver(batch, messages)

    def _take(self, packets: Sequence[Packet]) -> None:
        self._inner.send([Pubcomp(packet.packet_id) for packet in packets if isinstance(packet, Pubrel)])
        self._pending += [packet for packet in packets if isinstance(packet, Publish)]

    async def _deliver(self, batch: Sequence[Publish], messages: Sequence[ForwardedMessage]) -> None:
        """All of them, one by one if the sink does not take them together."""
        try:
            await self._send(messages, 1)
        except Refused:
            for publish, message in zip(batch, messages, strict=True):
                await self._deliver_alone(publish, message)
            return
        self._settle(batch)
        self._status.note_sent(len(batch))

    async def _deliver_alone(self, publish: Publish, message: ForwardedMessage) -> None:
        try:
            await self._send([message], self._rules.refused_tries)
        except Refused as refused:
            self._status.refused += 1
            logger.warning(
                "a forward gives up a message, which its target refuses",
                extra={"forward": self._status.name, "topic": publish.topic, "reason": str(refused)},
            )
            await self._drop(publish.topic, f"forward_refused: {refused}")
        else:
            self._status.note_sent(1)
        self._settle([publish])

    async def _send(self, messages: Sequence[ForwardedMessage], tries: int) -> None:
        """Tries until the sink has taken them. Raises Refused if it has refused them so many times."""
        backoff = Backoff(self._rules.retry_seconds_maximum)
        while True:
            try:
                await self._try(messages)
                return
            except Refused as refused:
                tries -= 1
                self._status.note_failure(f"refused: {refused}")
                if not tries:
                    raise
                pause_seconds = backoff.after_failure()
            except Retry as retry:
                self._status.note_failure(str(retry))
                longest = self._rules.retry_seconds_maximum
                pause_seconds = backoff.after_failure(min(retry.after_seconds, longest))
            await anyio.sleep(pause_seconds)

    async def _try(self, messages: Sequence[ForwardedMessage]) -> None:
        """Raises Refused, or Retry whatever else goes wrong: the sink may be anybody's."""
        timeout_seconds = self._rules.timeout_seconds
        await self._inner.until_sure()
        try:
            with anyio.fail_after(timeout_seconds):
                await self._sink.send(messages)
        except (Refused, Retry):
            raise
        except TimeoutError:
            raise Retry(f"no answer within {timeout_seconds:g} s") from None
        except Exception as error:  # the boundary of the plug-in; its text may have secrets
            logger.exception("a sink failed", extra={"forward": self._status.name})
            raise Retry(f"the sink failed: {type(error).__name__}") from error

    def _settle(self, batch: Sequence[Publish]) -> None:
        """They are done with."""
        answers: list[Packet] = []
        for publish in batch:
            self._pending.popleft()
            if publish.qos:
                answer = Puback if publish.qos == 1 else Pubrec
                answers.append(answer(publish.packet_id))
        self._inner.send(answers)

    def _message(self, publish: Publish) -> ForwardedMessage:
        properties = publish.properties or Properties()
        return ForwardedMessage(
            f"{self._status.name}-{self._inner.key_of(publish.packet_id)}" if publish.qos else "",
            publish.topic,
            publish.payload,
            publish.qos,
            publish.retain,
            publish.dup,
            properties.user_property,
            properties.content_type,
            properties.response_topic,
            properties.correlation_data,
            properties.message_expiry_interval,
        )
