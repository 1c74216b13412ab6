"""The same store on S3: through the same code, with the same promises, and without a trace of credentials."""

import multiprocessing
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.gc import gc
from hmsa_label.stores.label_store import LabelStore
from hmsa_label.stores.probe import probe_storage
from hmsa_label.stores.verify import verify

SECRETS = ("AKIAMADEUPFORTESTS", "made-up-secret-of-the-tests", "AKIAGIVENASOPTION", "secret-given-as-option")


def objects(uri: str, **options: Any) -> dict[str, bytes]:
    filesystem, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, **options)
    return {name: filesystem.cat_file(name) for name in filesystem.find(path)}


def test_s3_server_with_conditional_writes_passes_the_probe(s3_environment: str) -> None:
    assert probe_storage(FileRoot("s3://labels/probe"))["ok"]
    assert objects("s3://labels/probe") == {}


def test_label_relabel_collect_and_read_on_s3(s3_environment: str, labels: Any) -> None:
    uri = "s3://labels/whole"
    old = labels.fill(uri)
    version = LabelStore.open(uri).version
    new = labels.fill(uri, ["b"], teacher="b", relabel=True, seed=5)
    np.testing.assert_array_equal(LabelStore.open(uri).read("b"), new.labels["b"])
    np.testing.assert_array_equal(LabelStore.open(uri, version).read("b"), old.labels["b"])
    assert verify(uri) == []
    plan = gc(uri, keep_last=1, apply=True)
    assert plan.pruned == [version]
    assert not {f"labels/whole/{path}" for path in plan.paths} & objects(uri).keys()
    assert verify(uri) == []
    receipt = LabelStore.open(uri).receipt("a")
    group = zarr.open_group(uri, mode="r", storage_options={"endpoint_url": s3_environment})
    label = group[f"data/{receipt.segment}/16x24/label"][receipt.row]
    np.testing.assert_array_equal(label, old.labels["a"])
    body = b"".join(objects(uri).values())
    assert not [secret for secret in SECRETS if secret.encode() in body]


def test_a_killed_run_on_s3_is_adopted(s3_environment: str, labels: Any) -> None:
    first = labels.begin("s3://labels/adopt")
    first.writer.append([first.write("a")])
    first.write("b")
    second = labels.begin("s3://labels/adopt")
    assert second.writer.adopt() == 1
    assert second.writer.done_keys() == {"a", "b"}


def test_credentials_given_as_options_reach_the_store_and_stay_out_of_it(
    s3_endpoint: str, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    options = {
        "key": SECRETS[2],
        "secret": SECRETS[3],
        "endpoint_url": s3_endpoint,
        "client_kwargs": {"region_name": "eu-central-1"},
    }
    uri = "s3://labels/options"
    run = labels.fill(uri, storage_options=options)
    store = LabelStore.open(uri, storage_options=options)
    np.testing.assert_array_equal(store.read("a"), run.labels["a"])
    assert SECRETS[3] not in repr(store.root)
    body = b"".join(objects(uri, **options).values())
    assert not [secret for secret in SECRETS if secret.encode() in body]


def read_sum(store: LabelStore, queue: Any) -> None:
    queue.put(int(store.read("a").sum()))


@pytest.mark.timeout(60)
def test_a_read_is_one_request_and_a_forked_worker_reads_after_its_parent(s3_environment: str, labels: Any) -> None:
    run = labels.fill("s3://labels/fork")
    store = LabelStore.open("s3://labels/fork")
    assert requests_of(store, "b") == ["get_object"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=read_sum, args=(store, queue))
    worker.start()
    assert queue.get(timeout=40) == int(run.labels["a"].sum())
    worker.join(10)
    assert worker.exitcode == 0


def requests_of(store: LabelStore, key: str) -> list[str]:
    """Names of the S3 calls that reading a label makes."""
    filesystem, _ = store.root.open()
    calls: list[str] = []
    call_s3 = filesystem._call_s3

    async def counted(method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await call_s3(method, *args, **kwargs)

    filesystem._call_s3 = counted
    try:
        store.read(key)
    finally:
        filesystem._call_s3 = call_s3
    return calls
