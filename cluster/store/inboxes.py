"""The inboxes of nodes and their bells: the requests; `cluster.inbox` reads and writes what is in them."""

from dataclasses import dataclass
from typing import Final

from cluster.store.call import BodyLayout, Reply, Text
from cluster.store.keys import META_SLOT
from cluster.store.reply import as_int, as_text, in_pairs

SEND_BODIES: Final = BodyLayout(entries=2, items=1, body=0)


@dataclass(frozen=True, slots=True)
class Rung:
    """What rang in a bucket. `sessions`: clients with new entries, and the last number given in their queues;
    `kicked`: clients that another node has taken, and the epoch that is over."""

    sessions: list[tuple[str, int]]
    kicked: list[tuple[str, int]]


def open_inbox(incarnation: str) -> list[object]:
    """Makes a node's inbox; once, after it has joined. Answer: 1."""
    return ["open_inbox", incarnation]


def send(incarnation: str, record: Text) -> list[object]:
    """Puts a record into the inbox of a node. Answer: 1; 0 if the node is gone; -1 if there is no room."""
    return ["send", incarnation, record]


def trim_inbox(incarnation: str, last_id: str, size_bytes: int) -> list[object]:
    """Forgets the entries up to `last_id`, which have been handled and have `size_bytes`. Answer: 1."""
    return ["trim_inbox", incarnation, last_id, size_bytes]


def inbox_tail(incarnation: str) -> list[object]:
    """Asks for the id of the newest entry."""
    return ["inbox_tail", incarnation]


def answer(question_id: str, incarnation: str, text: bytes) -> list[object]:
    """What a node says to a question. Answer: 1."""
    return ["answer", META_SLOT, question_id, incarnation, text]


def close_inbox(incarnation: str) -> list[object]:
    """Deletes the inbox of a node that has left or is dead. Answer: 1."""
    return ["close_inbox", incarnation]


def take_bell(bucket: int, incarnation: str, is_done: bool) -> list[object]:
    """Asks what rang for this node in the bucket. What is answered is kept until it is asked with
    `is_done`."""
    return ["take_bell", bucket, incarnation, is_done]


def parse_bell(reply: Reply) -> Rung:
    """The answer to `take_bell`."""
    rung = Rung([], [])
    for member, n in in_pairs(reply):
        kind, _, name = as_text(member).partition(":")
        if kind == "s":
            rung.sessions.append((name, as_int(n)))
        elif kind == "kick":
            epoch, _, client_id = name.partition(":")
            rung.kicked.append((client_id, int(epoch)))
    return rung
