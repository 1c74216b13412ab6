"""The same store on S3: through the same code, with the same promises, and without a trace of credentials."""

import multiprocessing
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from tests.stores.rules import HOOD, RULES, fill, image, made

SECRETS = ("AKIAMADEUPFORTESTS", "made-up-secret-of-the-tests", "AKIAGIVENASOPTION", "secret-given-as-option")


def objects(uri: str, options: dict[str, Any]) -> dict[str, bytes]:
    filesystem, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, **options)
    return {name: filesystem.cat_file(name) for name in filesystem.find(path)}


def secrets_in(uri: str, options: dict[str, Any]) -> list[str]:
    body = b"".join(objects(uri, options).values())
    return [secret for secret in SECRETS if secret.encode() in body]


@pytest.fixture(scope="module")
def options(s3_endpoint: str) -> dict[str, Any]:
    """Storage options that lead to the server without any environment."""
    client = {"region_name": "eu-central-1"}
    return {"key": SECRETS[2], "secret": SECRETS[3], "endpoint_url": s3_endpoint, "client_kwargs": client}


@pytest.fixture(scope="module")
def filled(options: dict[str, Any], shared_labels: Any) -> Any:
    """A finished run on a store that was reached by options alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        return shared_labels.fill("s3://labels/options", storage_options=options)


def test_label_relabel_collect_and_read_with_the_environment_alone(s3_environment: str, labels: Any) -> None:
    uri, reach = "s3://labels/whole", {"endpoint_url": s3_environment}
    old = labels.fill(uri)
    first = LabelStore.open(uri)
    assert first.identity.probe["ok"]
    new = labels.fill(uri, ["b"], teacher="b", relabel=True, seed=5)
    np.testing.assert_array_equal(LabelStore.open(uri).read("b"), new.labels["b"])
    np.testing.assert_array_equal(LabelStore.open(uri, first.version).read("b"), old.labels["b"])
    assert verify(uri) == []
    plan = gc(uri, keep_last=1, apply=True)
    assert plan.pruned == [first.version]
    assert not {f"labels/whole/{path}" for path in plan.paths} & objects(uri, reach).keys()
    assert verify(uri) == []
    receipt = LabelStore.open(uri).receipt("a")
    group = zarr.open_group(uri, mode="r", storage_options=reach)
    np.testing.assert_array_equal(group[f"data/{receipt.segment}/16x24/label"][receipt.row], old.labels["a"])
    assert secrets_in(uri, reach) == []
    rollback(uri, 0)
    assert LabelStore.open(uri).keys() == []


def test_rows_of_a_killed_run_are_adopted(s3_environment: str, labels: Any) -> None:
    first = labels.begin("s3://labels/adopt")
    first.writer.append([first.write("a")])
    first.write("b")
    second = labels.begin("s3://labels/adopt")
    assert second.writer.adopt() == 1
    assert second.writer.done_keys() == {"a", "b"}


def test_credentials_given_as_options_stay_out_of_the_store(filled: Any, options: dict[str, Any]) -> None:
    store = LabelStore.open(filled.uri, storage_options=options)
    np.testing.assert_array_equal(store.read("a"), filled.labels["a"])
    assert SECRETS[3] not in repr(store.root)
    assert secrets_in(filled.uri, options) == []


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


def read_sum(store: LabelStore, queue: Any) -> None:
    queue.put(int(store.read("a").sum()))


@pytest.mark.timeout(60)
def test_a_read_is_one_request_and_a_forked_worker_reads_after_its_parent(filled: Any, options: dict[str, Any]) -> None:
    store = LabelStore.open(filled.uri, storage_options=options)
    assert requests_of(store, "b") == ["get_object"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=read_sum, args=(store, queue))
    worker.start()
    assert queue.get(timeout=40) == int(filled.labels["a"].sum())
    worker.join(10)
    assert worker.exitcode == 0


def test_store_in_a_bucket_that_is_not_there_is_named(options: dict[str, Any]) -> None:
    classes = {"name": "one", "names": ["road"], "colours": [[0, 0, 0]], "raw_ids": [7], "ignore_index": 255}
    with pytest.raises(
        StoreError, match=r"cannot make a store at s3://nobodys/labels: .*; make the bucket, or correct"
    ):
        LabelStore.create("s3://nobodys/labels", classes, storage_options=options)


def test_a_rule_of_every_kind_on_s3(s3_environment: str) -> None:
    uri, images = "s3://labels/rules", [image(1), image(2, polygons=False)]
    fill(uri, Rule(0.9), images)
    rule = RULES["all"]
    rethreshold(uri, rule, mask=HOOD)
    store = LabelStore.open(uri)
    for arrays, facts in images:
        expected = made(arrays, facts, rule)
        np.testing.assert_array_equal(store.read(facts.key), expected.label)
        np.testing.assert_array_equal(store.origin(facts.key), expected.origins)
    np.testing.assert_array_equal(store.mask(rule.mask), HOOD)
    assert verify(uri, every=True) == []
    assert gc(uri, keep_last=1).objects > 0
