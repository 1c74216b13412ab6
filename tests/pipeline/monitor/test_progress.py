"""What a person sees of a run."""

import io

import pytest

from hmsa_label.pipeline.engine.events import (
    Committed,
    Draining,
    FailuresKnown,
    ImageFailed,
    ImageLabeled,
    LabeledElsewhere,
    RunEnded,
    RunStarted,
    Tick,
    WorkerLost,
    WorkersStarting,
    WorkerStarted,
)
from hmsa_label.pipeline.monitor.progress import LINE_SECONDS, Bar, Counter, Lines, open_display
from hmsa_label.pipeline.records import Failure

STARTED = RunStarted(store="/labels", run_id="r", images_total=100, images_done_before=40)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def labeled(kept_share: float = 0.5) -> ImageLabeled:
    return ImageLabeled(key="a", kept_share=kept_share, seconds=0.1)


def test_rate_and_time_left_follow_the_last_minute():
    clock = Clock()
    count = Counter(clock)
    count.update(STARTED)
    assert count.images_per_second is None
    for _ in range(20):  # slow at first
        clock.now += 10
        count.update(labeled())
    for _ in range(30):
        clock.now += 2
        count.update(labeled())
    assert count.done == 90
    assert count.images_per_second == pytest.approx(0.5, rel=0.01)
    assert count.seconds_left == pytest.approx(20, rel=0.01)


def test_log_gets_one_line_per_half_minute_and_one_for_the_end():
    clock, stream = Clock(), io.StringIO()
    show = Lines(stream, clock)
    show(STARTED)
    for _ in range(35):
        clock.now += 2
        show(labeled(0.75))
        show(Tick(workers_ready=2, workers=3, images_in_flight=6))
    show(RunEnded(images_labelled=35, images_failed=0, interrupted=False))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 70 // LINE_SECONDS + 1
    assert lines[-1] == "75/100 images, 0.50 images/s, 0:50 left, workers 2/3, kept 75.0%"


def test_log_says_that_it_waits_for_workers():
    clock, stream = Clock(), io.StringIO()
    show = Lines(stream, clock)
    clock.now += LINE_SECONDS
    show(Tick(workers_ready=0, workers=4, images_in_flight=0))
    assert stream.getvalue() == "waiting for 4 workers, none is ready yet\n"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (WorkersStarting(workers=2, where="ray"), "starting 2 workers (ray)"),
        (WorkerStarted(worker=1, info={"host": "node7", "device": "H200"}), "worker 1 is ready on node7 H200"),
        (WorkerLost(worker=1, reason="killed"), "worker 1 was lost and is replaced: killed"),
        (WorkerLost(worker=1, reason="killed", while_starting=True), "lost while it loaded its teacher: killed"),
        (ImageFailed(failure=Failure(key="a/b", reason="the file is empty")), "failed a/b: the file is empty"),
        (Draining(images_in_flight=3), "stopping after the 3 images in flight, which are kept; press Ctrl-C again"),
        (RunStarted(store="s", run_id="r", images_total=5, images_done_before=5), "nothing to do: all 5 images"),
    ],
)
def test_what_is_out_of_the_ordinary_is_told_at_once(event, text):
    for display in (Lines, Bar):
        stream = io.StringIO()
        display(stream)(event)
        assert text in stream.getvalue()


def test_ordinary_events_make_no_lines():
    stream = io.StringIO()
    show = Lines(stream, Clock())
    for event in (STARTED, labeled(), Committed(version=3, images=1)):
        show(event)
    assert stream.getvalue() == ""


def test_bar_begins_at_the_images_done_before_and_ends_at_the_total():
    stream = io.StringIO()
    show = Bar(stream)
    show(STARTED)
    for _ in range(60):
        show(labeled())
    show(Tick(workers_ready=2, workers=2, images_in_flight=0))
    show(RunEnded(images_labelled=60, images_failed=0, interrupted=False))
    shown = stream.getvalue().split("\r")
    assert any("40/100" in text for text in shown)
    assert "100/100" in shown[-1]
    assert "workers=2/2" in shown[-1]
    assert "kept=50.0%" in shown[-1]


def test_bar_is_for_terminals_only():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(open_display(Terminal()), Bar)
    assert isinstance(open_display(io.StringIO()), Lines)


def test_bar_ends_at_its_end_when_images_fail():
    stream = io.StringIO()
    show = Bar(stream)
    show(RunStarted(store="/labels", run_id="r", images_total=12, images_done_before=4))
    show(FailuresKnown(failures=[Failure(key="a", reason="truncated"), Failure(key="b", reason="truncated")]))
    for _ in range(3):
        show(labeled())
    show(ImageFailed(failure=Failure(key="c", reason="truncated")))
    show(LabeledElsewhere(images=2))
    show(RunEnded(images_labelled=3, images_failed=3, interrupted=False))
    last = stream.getvalue().strip().rpartition("\r")[2]
    assert "100%" in last
    assert "12/12" in last
