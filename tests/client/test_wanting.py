"""What the store is told of a client's subscriptions, and what waits for that."""

from types import SimpleNamespace
from typing import cast

from broker.client.client import Client
from broker.client.wanting import want
from broker.routing import Interest
from cluster.store.lane import Request


class Asked:
    """A committer that keeps what it is asked; a client of its node."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, object]] = []
        hub = SimpleNamespace(interest=Interest(), incarnation="here", committer=self)
        self.client = cast(Client, SimpleNamespace(hub=hub, interests=set(), client_id="c"))
        self.done: list[str] = []

    def request(self, request: Request, handler: object, *, frees_memory: bool = False) -> None:
        self.asked.append((request, handler))

    def want(self, name: str, *fields: str) -> None:
        want(self.client, fields, lambda failure: self.done.append(name))

    def answer(self) -> None:
        _, handler = self.asked.pop(0)
        assert callable(handler)
        handler(b"1.1")


def test_a_second_subscribe_waits_for_what_the_first_is_about_to_tell() -> None:
    """Its SUBACK says that messages of every node come here."""
    asked = Asked()
    asked.want("first", "1:a")
    asked.want("second", "1:a", "1:a")
    assert asked.done == []
    asked.answer()
    asked.answer()
    assert asked.done == ["first", "second"]
    asked.want("third", "1:a")
    assert asked.done == ["first", "second", "third"]
    assert asked.asked == []
