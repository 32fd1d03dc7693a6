"""A request that waits is kept as what is new in it, and read as what was sent."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from spanrelay.pipeline import backlog as backlogs
from spanrelay.pipeline.backlog import Backlog, Remainder

HEAD, TAIL = b'{"messages":[', b'],"model":"m"}'


def grown(chance: random.Random, items: list[bytes]) -> list[bytes]:
    """Return a conversation that goes on, or one that was changed."""
    kind, at = chance.random(), chance.randrange(len(items))
    new = b'{"content":"%d"}' % chance.randrange(10**9) + b"x" * chance.randrange(300)
    if kind < 0.7:
        return [*items, new]
    return items[:at] if kind < 0.8 and at else [*items[:at], new, *items[at + 1 :]]


def test_every_request_is_read_as_it_was_sent_in_whatever_order_they_are_read() -> None:
    for seed in range(200):
        chance, held = random.Random(seed), Backlog()
        talks = [[b"%d" % number + b"y" * 3000] for number in range(3)]
        put: list[tuple[bytes, Remainder | None]] = []
        for _ in range(40):
            at = chance.randrange(len(talks))
            talks[at] = grown(chance, talks[at])
            sent = HEAD + b",".join(talks[at]) + TAIL
            put.append((sent, held.put(sent)))
        chance.shuffle(put)
        for sent, kept in put:
            assert kept is None or kept.whole() == kept.whole() == sent


def test_what_is_kept_of_a_conversation_grows_with_what_is_new_and_not_with_its_history() -> None:
    held, items, kept = Backlog(), [b"z" * 2000], list[Remainder]()
    for _ in range(500):
        items.append(b"z" * 100)
        one = held.put(HEAD + b",".join(items) + TAIL)
        assert one is not None
        kept.append(one)
    assert sum(map(len, kept)) < 500 * 180
    assert sum(map(len, (one.whole() for one in kept))) > 500 * 20_000


def test_the_latest_requests_have_a_bound_and_are_let_go_of() -> None:
    held = Backlog()
    for number in range(50):
        held.put(b"%d" % number + b"x" * (1 << 20))
    assert (len(held.latest), held._size <= backlogs._BYTES_KEPT) == (15, True)
    held.clear()
    assert (len(held.latest), held._size) == (0, 0)


def test_threads_put_and_read_at_once() -> None:
    held = Backlog()

    def work(number: int) -> None:
        items = [b"%d" % number + b"x" * 2000]
        for _ in range(200):
            items.append(b"new")
            sent = HEAD + b",".join(items) + TAIL
            kept = held.put(sent)
            assert kept is None or kept.whole() == sent

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
