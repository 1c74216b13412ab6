"""Training loaders over a store: every way of starting workers, after the parent has read from it already."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hmsa_label.stores.versions.label_store import LabelStore


def slow(start_method):
    return pytest.param(start_method, marks=pytest.mark.slow)


class Labels(Dataset):
    """The labels of a store, in the order of its keys."""

    def __init__(self, store):
        self.store, self.keys = store, store.keys()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        return torch.from_numpy(self.store.read(self.keys[index]))


def assert_loads(store, start_method):
    parent = [store.read(key) for key in store]
    workers = 2 if start_method == "fork" else 1  # the others load every library anew in each
    loader = DataLoader(
        Labels(store), batch_size=None, num_workers=workers, multiprocessing_context=start_method, timeout=60
    )
    loaded = [label.numpy() for label in loader]
    assert len(loaded) == len(parent) == 6
    for label, expected in zip(loaded, parent, strict=True):
        np.testing.assert_array_equal(label, expected)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("start_method", ["fork", slow("forkserver"), slow("spawn")])
def test_loader_workers_read_a_local_store_after_their_parent(bench, start_method):
    bench.draw(6)
    bench.label()
    assert_loads(bench.open(), start_method)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("start_method", ["fork", slow("forkserver"), slow("spawn")])
def test_loader_workers_read_a_store_on_s3_after_their_parent(bench, s3_storage, start_method):
    bench.draw(6)
    uri = f"s3://labels/loader-{start_method}"
    bench.label(store=uri, storage_options=s3_storage)
    assert_loads(LabelStore.open(uri, storage_options=s3_storage), start_method)
