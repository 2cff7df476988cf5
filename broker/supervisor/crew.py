"""All workers together: what they answer to one question, and what follows for the whole."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import orjson

from broker.observability.chores import ChoreCounters, chore_metrics
from broker.observability.health import Answer as HealthAnswer
from broker.observability.health import Health
from broker.observability.merged import merge, own_process, render, worker_metrics
from broker.supervisor.asking import Answer, ask
from broker.supervisor.worker import Worker

ASK_TIMEOUT_SECONDS: Final = 2.0
"""For an answer of a worker. A longer one would make a probe or a scraper lose patience with all of them."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers, and the health and the counters of their parent."""

    workers: Sequence[Worker]
    health: Health
    chores: ChoreCounters

    def send_signal(self, number: signal.Signals) -> None:
        """To every worker's process."""
        for worker in self.workers:
            worker.send_signal(number)

    async def ready(self) -> HealthAnswer:
        """Ready if the parent is, and one of the workers."""
        own = self.health.ready()
        if not own.ok:
            return own
        answers = await self._ask("/readyz", is_enough=_is_good)
        if any(map(_is_good, answers.values())):
            return own
        reasons = [f"{worker.name}: {_reason(answer)}" for worker, answer in answers.items()]
        return HealthAnswer(False, ("no worker is ready", *reasons))

    async def metrics(self) -> bytes:
        """The page with the metrics of all workers, each with its name, and of the parent's process."""
        answers = await self._ask("/metrics")
        pages = {
            worker.name: answer.body.decode()
            for worker, answer in answers.items()
            if answer is not None and _is_good(answer)
        }
        states = [(worker.name, worker.name in pages, worker.restarts) for worker in self.workers]
        return render([*worker_metrics(states), *merge([*own_process(), *chore_metrics(self.chores)], pages)])

    async def _ask(
        self, target: str, is_enough: Callable[[Answer | None], bool] = lambda _: False
    ) -> dict[Worker, Answer | None]:
        """Every worker's answer, None for those that give none; without the others once one is enough."""
        answers: dict[Worker, Answer | None] = dict.fromkeys(self.workers)

        async def fill(worker: Worker, questions: anyio.CancelScope) -> None:
            answers[worker] = await ask(worker.socket, target, ASK_TIMEOUT_SECONDS)
            if is_enough(answers[worker]):
                questions.cancel()

        async with anyio.create_task_group() as questions:
            for worker in self.workers:
                questions.start_soon(fill, worker, questions.cancel_scope)
        return answers


def _is_good(answer: Answer | None) -> bool:
    return answer is not None and answer.status == 200


def _reason(answer: Answer | None) -> str:
    """Why a worker is not ready, in its own words."""
    if answer is None:
        return "does not answer"
    try:
        return ", ".join(orjson.loads(answer.body)["reasons"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"answers with status {answer.status}"
