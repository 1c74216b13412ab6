"""When the head falls silent or the last node of an own Ray is gone, without Ray."""

import threading
from collections.abc import Callable, Iterator

import pytest

from hmsa_label.pipeline.engine import ray_watch
from hmsa_label.pipeline.engine.ray_watch import HEAD_SECONDS, Hosts, RayWatch


class Head:
    """Answers until it is silenced; a question after that waits."""

    def __init__(self) -> None:
        self.hosts: Hosts = [{"CPU": 2.0}]
        self.silent = threading.Event()
        self.asked_in_vain = threading.Event()
        self.gone = threading.Event()
        self.answers = 0

    def __call__(self) -> Hosts:
        if self.silent.is_set():
            self.asked_in_vain.set()
            self.gone.wait(30)
            raise ConnectionError("the head is gone")
        self.answers += 1
        return self.hosts


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    monkeypatch.setattr(ray_watch, "ASK_SECONDS", 0.001)
    head = Head()
    yield head
    head.gone.set()


@pytest.fixture
def watched(head: Head) -> Iterator[Callable[..., RayWatch]]:
    watches: list[RayWatch] = []

    def watched(**options: object) -> RayWatch:
        watches.append(RayWatch(head, **options))  # type: ignore[arg-type]
        return watches[0]

    yield watched
    head.gone.set()
    for watch in watches:
        watch.close()


def wait_for_answers(head: Head, count: int) -> None:
    goal = head.answers + count
    while head.answers < goal:
        pass


def test_head_that_answers_is_no_trouble_and_its_hosts_are_kept(head, watched):
    watch = watched(is_own=False)
    head.hosts = [{"CPU": 2.0}, {"GPU": 1.0}]
    wait_for_answers(head, 2)
    assert watch.trouble() is None
    assert watch.hosts == head.hosts


@pytest.mark.parametrize("answers_with_errors", [False, True])
def test_silent_head_is_trouble_after_the_limit_alone(head, watched, answers_with_errors):
    now = [0.0]
    watch = watched(is_own=False, clock=lambda: now[0])
    if answers_with_errors:
        head.gone.set()
    head.silent.set()
    assert head.asked_in_vain.wait(10)
    now[0] = HEAD_SECONDS - 0.1
    assert watch.trouble() is None
    now[0] = HEAD_SECONDS + 0.1
    assert "the head of the Ray cluster has not answered for 30 s" in str(watch.trouble())


def test_own_ray_without_a_node_is_trouble_at_once_and_a_cluster_may_get_hosts(head, watched):
    own, cluster = watched(is_own=True), RayWatch(head, is_own=False)
    head.hosts = []
    wait_for_answers(head, 4)
    while own.hosts or cluster.hosts:
        pass
    assert "has lost its only node" in str(own.trouble())
    assert cluster.trouble() is None
    cluster.close()


def test_closed_watch_asks_no_more(head, watched):
    watch = watched(is_own=False)
    watch.close()
    before = head.answers
    assert not any(thread.name == "hmsa-label watch" for thread in threading.enumerate())
    assert head.answers == before
