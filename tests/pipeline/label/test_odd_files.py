"""Files that are no ordinary images: each is named and passed over, or taken with a word, and never ends a run."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.decode import BadImage
from hmsa_label.pipeline.data.scores import read_pair
from hmsa_label.pipeline.label import worker
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.images.cityscapes import CityscapesSource
from hmsa_label.stores.runs.record import read_outcomes
from hmsa_label.stores.versions.rethreshold import rethreshold

NOT_UTF8 = b"stra\xdfe"


def reasons_of(summary) -> dict[str, str]:
    return {failure.key.removeprefix("all/"): failure.reason for failure in summary.failed}


def test_name_that_is_not_utf8_is_passed_over_and_told_as_text(drawn):
    folder = os.fsencode(drawn.folder / "all")
    os.rename(folder + b"/000.png", folder + b"/" + NOT_UTF8 + b".png")
    os.mkdir(folder + b"/" + NOT_UTF8)
    os.rename(folder + b"/001.png", folder + b"/" + NOT_UTF8 + b"/001.png")
    summary = drawn.label()
    reasons = reasons_of(summary)
    assert summary.images_labelled == 18
    assert list(reasons) == ["stra\\udcdfe.png", "stra\\udcdfe/001.png"]
    assert all("its name is not UTF-8" in reason for reason in reasons.values())
    store = drawn.open()
    (run,) = store.table()["run"].unique().to_pylist()
    recorded = {failure["key"] for outcome in read_outcomes(store.root, run) for failure in outcome["failures"]}
    assert recorded == {f"all/{name}" for name in reasons}
    for file in (Path(drawn.store) / "runs").rglob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            json.loads(line)


def test_what_stands_where_an_image_was_expected_is_named_and_not_waited_for(drawn):
    folder = drawn.folder / "all"
    os.mkfifo(folder / "pipe.jpg")
    os.symlink("circle.png", folder / "circle.png")
    os.symlink("/dev/zero", folder / "zero.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket may have 108 bytes
        listening.bind("socket.png")
        os.chdir(here)
        summary = drawn.label()
    words = {
        "circle.png": "leads to itself",
        "pipe.jpg": "a named pipe",
        "socket.png": "a socket",
        "zero.png": "a device",
    }
    reasons = reasons_of(summary)
    assert summary.images_labelled == 20
    assert reasons.keys() == words.keys()
    assert all(word in reasons[name] for name, word in words.items())


def test_teacher_that_refuses_one_image_does_not_end_the_run(drawn, monkeypatch):
    class Narrow(Teacher):
        def evidence(self, images, wanted):
            if images[0].shape[0] > 16:
                raise BadImage("an image of 24 x 40 px needs more memory than there is")
            return super().evidence(images, wanted)

    monkeypatch.setattr(worker, "load_teacher", lambda config, *rest: Narrow(config))
    summary = drawn.label()
    assert (summary.images_labelled, summary.images_failed) == (8, 12)
    assert summary.failed[0].reason == "an image of 24 x 40 px needs more memory than there is"
    assert summary.failed[0].source_sha256 is None  # with more memory the same bytes may do
    monkeypatch.undo()
    assert drawn.label().images_labelled == 12


def test_manifest_tells_which_images_were_converted_and_keeps_it_over_versions(drawn):
    for number, mode in ((0, "L"), (1, "P"), (2, "RGBA")):
        path = drawn.folder / "all" / f"{number:03}.png"
        Image.open(path).convert(mode).save(path)
    drawn.label()
    expected = ["gray", "palette", "RGBA", *([None] * 17)]
    assert drawn.open().table()["converted"].to_pylist() == expected
    rethreshold(drawn.store, 0.8)
    assert drawn.open().table()["converted"].to_pylist() == expected


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_images_are_scored_and_trained_on_like_others(blocks, tmp_path, mode):
    source = CityscapesSource(str(blocks))
    ref = source.list("train", labels="gtFine")[0]
    for path in (ref.image, ref.labels):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(source.read(path))
    Image.open(tmp_path / ref.image).convert(mode).save(tmp_path / ref.image)
    image, labels = read_pair(CityscapesSource(str(tmp_path)), ref, CITYSCAPES)
    expected = np.asarray(Image.open(blocks / ref.image).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(image, expected)
    assert labels.shape == image.shape[:2]
