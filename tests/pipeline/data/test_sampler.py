"""Mixed batches: exact ratio, full coverage, and nothing that depends on how many processes look."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader

from hmsa_label.pipeline.data.datasets import AutoLabelDataset, FineLabelDataset
from hmsa_label.pipeline.data.sampler import MixedBatchSampler
from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.evidence import label_at, level_of

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.integers(1, 9), st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0]), st.integers(1, 3))
def test_every_prefix_of_every_rank_holds_the_asked_ratio(num_fine, num_auto, batch_size, mix, world):
    for rank in range(world):
        sampler = MixedBatchSampler(num_fine, num_auto, batch_size, 30, mix=mix, rank=rank, world=world)
        drawn = 0
        for step, batch in enumerate(sampler):
            assert len(batch) == batch_size
            auto = sum(position >= num_fine for position in batch)
            drawn += auto
            assert abs(drawn - mix * batch_size * (step + 1)) < 1.01
            if (mix * batch_size).is_integer():
                assert auto == mix * batch_size


@given(SIZES, SIZES, st.integers(2, 9), st.integers(1, 3), st.integers(0, 5))
def test_every_image_is_seen_once_before_any_is_seen_twice(num_fine, num_auto, batch_size, world, seed):
    samplers = [
        MixedBatchSampler(num_fine, num_auto, batch_size, 40, seed=seed, rank=rank, world=world)
        for rank in range(world)
    ]
    seen = Counter()
    for step in range(40):
        for sampler in samplers:
            seen.update(sampler.batch(step))
        for first, size in ((0, num_fine), (num_fine, num_auto)):
            counts = [seen[position] for position in range(first, first + size)]
            # the last pass may be under way in ranks that come later in the step's order
            assert max(counts) - min(counts) <= 1


@given(st.integers(0, 29))
def test_resuming_continues_the_same_sequence(start):
    whole = list(MixedBatchSampler(13, 29, 6, 30, seed=4))
    assert list(MixedBatchSampler(13, 29, 6, 30, seed=4, start=start)) == whole[start:]


def test_seeds_give_other_orders():
    first, second = (MixedBatchSampler(50, 50, 8, 1, seed=seed).batch(0) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mix": 1.5}, "share of auto-labeled images"),
        ({"num_auto": 0}, "needs images of both kinds"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"rank": 2, "world": 2}, r"rank must lie in 0\.\.1"),
    ],
)
def test_unusable_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedBatchSampler(**{"num_fine": 4, "num_auto": 4, "batch_size": 2, "num_batches": 1, **arguments})


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_loader_mix_fine_and_auto_labels(bench, draw, tmp_path, workers):
    from PIL import Image

    bench.draw(6)
    bench.label()
    for number in range(4):
        draw(tmp_path / f"fine/leftImg8bit/train/town/town_{number:06}_000000_leftImg8bit.png", number)
        path = tmp_path / f"fine/gtFine/train/town/town_{number:06}_000000_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 40), 7, np.uint8)).save(path)
    fine = FineLabelDataset(str(tmp_path / "fine"))
    auto = AutoLabelDataset(bench.open(), str(bench.folder), dataset="folder")
    sampler = MixedBatchSampler(len(fine), len(auto), batch_size=4, num_batches=5)
    loader = DataLoader(ConcatDataset([fine, auto]), batch_sampler=sampler, num_workers=workers)
    batches = list(loader)
    assert len(batches) == 5
    for (images, labels), positions in zip(batches, sampler, strict=True):
        assert images.shape == (4, 24, 40, 3)
        assert (labels[:2] == 0).all()
        for label, position in zip(labels[2:], positions[2:], strict=True):
            np.testing.assert_array_equal(label, auto.store.read(auto.keys[position - 4]))


def test_auto_labels_come_at_any_stored_threshold_and_by_class(bench):
    bench.draw(2)
    bench.label()
    store, folder = bench.open(), str(bench.folder)
    key = store.keys()[0]
    top1, code, grid = store.read_evidence(key)
    at_half = AutoLabelDataset(store, folder, dataset="folder", threshold=0.5)[0][1]
    np.testing.assert_array_equal(at_half, label_at(top1, code, level_of(0.5, grid)))
    by_class = AutoLabelDataset(store, folder, dataset="folder", class_thresholds={"road": 0.5})[0][1]
    np.testing.assert_array_equal(by_class, np.where(top1 == 0, at_half, store.read(key)))
    with pytest.raises(ThresholdNotStored):
        AutoLabelDataset(store, folder, dataset="folder", threshold=0.123)
    with pytest.raises(ValueError, match="'roads', which is no class"):
        AutoLabelDataset(store, folder, dataset="folder", class_thresholds={"roads": 0.5})
