"""The whole flow in small: drawn streets in, a verified store and a report out; a second call repeats no work."""

import json
import os
import signal
from pathlib import Path

import pytest

from hmsa_label.pipeline.demo import flow
from hmsa_label.pipeline.demo.flow import DemoConfig, DemoSummary, demonstrate
from hmsa_label.pipeline.report.of_store import report_version
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.versions.label_store import LabelStore

COUNTS = {"train": 2, "train_extra": 3, "val": 1}


def small(folder: Path, threshold: float = 0.055, seed: int = 0) -> DemoConfig:
    """A demonstration of seconds; its teacher knows nothing, so that only a low threshold keeps pixels."""
    return DemoConfig(
        output=str(folder),
        seed=seed,
        counts=COUNTS,
        size=(64, 128),
        model="hrnet_tiny_ocr",
        max_steps=2,
        crop_px=(64, 128),
        threshold=threshold,
        executor="local",
        pictures=2,
        cpu_threads=1,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoSummary, list[str]]:
    folder, lines = tmp_path_factory.mktemp("demo"), list[str]()
    return folder, demonstrate(small(folder), lines.append), lines


def test_demo_labels_every_extra_image_and_the_store_is_sound(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    folder, summary, _ = demo
    assert summary.images_labelled == COUNTS["train_extra"]
    assert summary.problems == 0
    assert verify(summary.store) == []
    store = LabelStore.open(summary.store)
    keys = [ref.key for ref in open_images("cityscapes", str(folder / "streets")).list("train_extra")]
    assert store.keys() == keys
    assert store.digest == summary.digest
    assert summary.kept_share is not None
    assert summary.kept_share > 0.5


def test_demo_agreement_is_that_of_the_manifest(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    _, summary, _ = demo
    rows = LabelStore.open(summary.store).table()["coarse_agreement"].to_pylist()
    assert summary.coarse_agreement is not None
    assert min(rows) <= summary.coarse_agreement <= max(rows)


def test_demo_report_shows_what_was_measured(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    folder, summary, lines = demo
    assert Path(summary.report) == folder / "index.html"
    text = Path(summary.report).read_text("utf-8")
    for shown in (summary.digest, f"{summary.teacher_miou:.3f}", "no problems", "Thresholds"):
        assert shown in text
    assert text.count("<article>") == 2
    assert lines[-1] == f"open {summary.report}"


def test_second_call_goes_on_where_the_first_stopped(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    folder, summary, _ = demo
    checkpoint = Path(summary.checkpoint).stat().st_mtime_ns
    again = demonstrate(small(folder), lambda _: None)
    assert (again.version, again.digest, again.teacher_miou) == (summary.version, summary.digest, summary.teacher_miou)
    assert Path(summary.checkpoint).stat().st_mtime_ns == checkpoint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_training_ends_the_demo_and_the_next_call_goes_on(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "LINE_SECONDS", 0.0)  # a line for each step

    def interrupt(line: str) -> None:
        if line.strip().startswith("step 1 of"):
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        demonstrate(small(tmp_path), interrupt)
    assert not (tmp_path / "labels").exists()
    assert demonstrate(small(tmp_path), lambda _: None).images_labelled == COUNTS["train_extra"]


def test_another_seed_in_the_same_folder_is_refused(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    with pytest.raises(ValueError, match="choose another folder or remove it"):
        demonstrate(small(demo[0], seed=1), lambda _: None)


def test_thresholds_of_the_report_fall_monotonically(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    folder, summary, _ = demo
    source = open_images("cityscapes", str(folder / "streets"))
    report = report_version(
        LabelStore.open(summary.store), source, source.list("train_extra"), threshold=0.055, pictures=9
    )
    shares = [row.kept_share for row in report.thresholds]
    assert report.thresholds[0].threshold == 0.055
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(summary.kept_share)
    assert sum(report.class_px) == round(shares[0] * 3 * 64 * 128)
    assert len(report.images) == 3
    json.dumps(report.class_px)


def test_report_of_images_without_labels_is_refused(demo: tuple[Path, DemoSummary, list[str]]) -> None:
    folder, summary, _ = demo
    source = open_images("cityscapes", str(folder / "streets"))
    with pytest.raises(LabelMissing, match="holds none of the 1 images to report on"):
        report_version(
            LabelStore.open(summary.store), source, [ImageRef(key="other", image="x")], threshold=0.055, pictures=1
        )
