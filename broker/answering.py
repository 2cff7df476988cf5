"""What a node answers when the admin API of any process asks it something, by the name of the question."""

from functools import partial

import orjson

from broker.client import Hub
from broker.client.operator_message import QUESTION, OperatorMessages
from broker.observability.metrics import SAMPLES_QUESTION
from broker.observability.page import MetricsPage
from cluster.questions import Answerer, QuestionRefused


def content_answerers(hub: Hub) -> dict[str, Answerer]:
    """Of messages that operators publish, and of what the node counts."""
    return {
        QUESTION: OperatorMessages(hub).answer,
        SAMPLES_QUESTION: partial(_samples, MetricsPage(hub.counters)),
    }


async def _samples(page: MetricsPage, argument: bytes) -> object:
    try:
        beginning = orjson.loads(argument)["name"]
    except (ValueError, KeyError, TypeError):
        raise QuestionRefused("not understood") from None
    return page.samples(str(beginning))
