"""What a training tells: lines for people, a picture, and TensorBoard's files."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.training import Score
from hmsa_label.pipeline.training.log import TrainEvent, TrainLog, curve
from hmsa_label.pipeline.training.progress import TrainBar, TrainLines
from hmsa_label.pipeline.training.state import TrainFolder


def step(number, **values):
    numbers = {"loss": 2.0, "learning_rate": 0.01, "images_per_second": 4.0, **values}
    return TrainEvent(step=number, total_steps=100, **numbers)


def miou(value):
    return Score(name="mIoU", value=value, parts={"iou": {"road": value, "train": None}})


def test_lines_tell_loss_speed_last_miou_and_the_time_left():
    now = [0.0]
    stream = io.StringIO()
    show = TrainLines(stream, lambda: now[0])
    for number in range(1, 12):
        show(step(number))
        now[0] += 2.0
        if number == 5:
            show(TrainEvent(step=5, total_steps=100, score=miou(0.25)))
    assert stream.getvalue().splitlines() == [
        "step 1/100, loss 2.0000, 4.00 images/s",
        "step 5/100, validation mIoU 0.2500",
        "step 6/100, loss 2.0000, 4.00 images/s, last mIoU 0.2500, 0:03:08 left",
        "step 11/100, loss 2.0000, 4.00 images/s, last mIoU 0.2500, 0:02:58 left",
    ]


def test_bar_counts_steps_from_where_a_training_goes_on():
    stream = io.StringIO()
    show = TrainBar(stream)
    show(step(41, loss=1.25))
    show(TrainEvent(step=41, total_steps=100, score=miou(0.5)))
    show(step(100, loss=1.0))
    last = stream.getvalue().split("\r")[-1]
    assert "100/100" in last
    assert "mIoU=0.5000" in last
    assert "loss=1.000" in last


def test_curve_is_a_picture_with_and_without_validations():
    events = [{"step": n, "loss": 5 / n, "learning_rate": 0.1 / n} for n in range(1, 30)]
    scored = [*events, {"step": 10, "miou": 0.2}, {"step": 29, "miou": 0.4}]
    pictures = [np.asarray(Image.open(io.BytesIO(curve(some, "mIoU"))).convert("RGB")) for some in (events, scored)]
    assert pictures[0].shape == pictures[1].shape == (440, 990, 3)
    right = slice(500, None)
    assert (pictures[0][:, right] != pictures[1][:, right]).any()
    green = (pictures[1][..., 1].astype(int) - pictures[1][..., 0]) > 50
    assert green.sum() > 100


def test_a_curve_of_nothing_is_still_a_picture():
    assert curve([], "mIoU").startswith(b"\x89PNG")


def test_numbers_go_to_tensorboard_if_wanted(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard")
    log = TrainLog(TrainFolder(str(tmp_path)), score="mIoU", tensorboard=True)
    log(step(1))
    log(TrainEvent(step=1, total_steps=100, score=miou(0.75)))
    log.close()
    board = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 2.0)]
    assert board.Scalars("miou")[0].value == 0.75
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 1]


def test_figures_of_a_validation_stand_beside_its_step_in_the_log(tmp_path):
    log = TrainLog(TrainFolder(str(tmp_path)), score="mIoU", tensorboard=False)
    log(TrainEvent(step=7, total_steps=100, score=miou(0.75)))
    expected = '{"step": 7, "total_steps": 100, "miou": 0.75, "iou": {"road": 0.75, "train": null}}\n'
    assert (tmp_path / "metrics.jsonl").read_text() == expected


@pytest.mark.parametrize("display", [TrainLines, TrainBar])
def test_what_a_training_takes_is_a_line_before_its_steps(display):
    stream = io.StringIO()
    show = display(stream)
    show(TrainEvent(step=0, total_steps=100, estimate="a step takes about 3.1 GB"))
    show(step(100))
    assert stream.getvalue().startswith("a step takes about 3.1 GB\n")
    assert "100/100" in stream.getvalue()
