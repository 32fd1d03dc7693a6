"""Documents are written beside each other, and one after the other where that is all there is."""

from __future__ import annotations

import os
import queue
import threading
from functools import partial

import pytest

from spanrelay.assembly import crew
from spanrelay.assembly.crew import Crew


def test_jobs_are_done_beside_each_other_and_answer_in_their_order() -> None:
    together = threading.Barrier(crew.WORTHWHILE)

    def job(number: int) -> bool:
        together.wait(30)  # ends only where all are under way at once
        return number % 2 == 0

    assert Crew().all_of([partial(job, number) for number in range(crew.WORTHWHILE)]) == [True, False, True, False]


def test_more_jobs_than_threads_are_all_done() -> None:
    done: list[int] = []

    def job(number: int) -> bool:
        done.append(number)
        return True

    jobs = [partial(job, number) for number in range(10 * crew.THREADS)]
    assert Crew().all_of(jobs) == [True] * len(jobs)
    assert sorted(done) == list(range(len(jobs)))


def test_without_threads_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    caller = threading.current_thread()
    assert Crew().all_of([lambda: threading.current_thread() is caller] * 20) == [True] * 20


def test_what_a_job_raises_is_raised_where_it_was_given() -> None:
    def fails() -> bool:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        Crew().all_of([lambda: True, fails, lambda: True, lambda: True, lambda: True])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # on purpose
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    here = Crew()
    assert here.all_of([lambda: True] * 8) == [True] * 8
    child = os.fork()
    if child == 0:
        os._exit(0 if here.all_of([lambda: True] * 8) == [True] * 8 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_that_start_late_wait_in_the_way_that_threads_then_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Crew()
    patched = vars(queue)[
        "_PySimpleQueue"
    ]  # gevent changes queues and threads together, perhaps after we were imported
    monkeypatch.setattr(queue, "SimpleQueue", patched)
    assert here.all_of([lambda: True] * 8) == [True] * 8
    assert type(here._work) is patched
