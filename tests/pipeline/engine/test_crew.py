"""The least busy worker is found as if all were looked at, whatever happened before."""

import random

import pytest

from hmsa_label.pipeline.engine.crew import Crew, Member
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.stores.images.source import ImageRef

WORKERS = 6


def task(number: int) -> Task:
    return Task(image=ImageRef(key=str(number), image=f"{number}.png"), run_id="r")


def change(crew: Crew, member: Member, number: int, chance: random.Random) -> None:
    """Something that may happen to a worker."""
    if not member.ready:
        crew.make_ready(member)
    elif member.flying and chance.random() < 0.4:
        crew.take_back(member, chance.choice(list(member.flying)))
    elif chance.random() < 0.1:
        assert len(crew.lose(member)) < 100
    elif chance.random() < 0.2:
        crew.set_aside(chance.choice([None, member]))
    else:
        crew.give(member, task(number))


@pytest.mark.parametrize("seed", range(5))
def test_least_busy_worker_is_that_of_a_search_through_all(seed):
    chance, crew = random.Random(seed), Crew()
    crew.grow(WORKERS)
    for number in range(400):
        change(crew, crew[chance.randrange(WORKERS)], number, chance)
        free = [len(member.flying) for member in crew if member.ready and member is not crew.aside]
        for limit in (1, 3, 50):
            found = crew.least_busy(limit)
            assert (len(found.flying) if found else None) == min((n for n in free if n < limit), default=None)
            assert found is None or (found.ready and found is not crew.aside)
        assert crew.in_flight == sum(len(member.flying) for member in crew)
        assert crew.num_ready == sum(member.ready for member in crew)


def test_work_goes_round_among_workers_that_have_equally_much():
    crew = Crew()
    crew.grow(3)
    for member in crew:
        crew.make_ready(member)
    given = []
    for number in range(6):
        member = crew.least_busy(5)
        assert member is not None
        given.append(member.number)
        crew.give(member, task(number))
    assert given == [0, 1, 2, 0, 1, 2]
