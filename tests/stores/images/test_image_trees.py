"""Cityscapes, Mapillary and plain folders as people have them on disk, in memory and on S3."""

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import BadImage

CAMVID = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "camvid"
NAME = "aachen_000000_000019"


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def image(split: str, name: str = NAME, suffix: str = "png") -> str:
    return f"leftImg8bit/{split}/aachen/{name}_leftImg8bit.{suffix}"


def label(kind: str, split: str, name: str = NAME) -> str:
    return f"{kind}/{split}/aachen/{name}_{kind}_labelIds.png"


def test_cityscapes_lists_images_with_the_asked_and_the_coarse_labels(tmp_path: Path) -> None:
    put(tmp_path, image("train"), label("gtFine", "train"), label("gtCoarse", "train"), "gtFine/train/aachen/x.json")
    source = open_images("cityscapes", str(tmp_path))
    (ref,) = source.list("train", labels="gtFine", coarse="gtCoarse")
    assert ref.key == f"train/aachen/{NAME}"
    assert (ref.image, ref.labels, ref.coarse) == (
        image("train"),
        label("gtFine", "train"),
        label("gtCoarse", "train"),
    )
    assert source.read(ref.image) == image("train").encode()
    assert (source.list("train")[0].labels, source.list("train")[0].coarse) == (None, None)


def test_cityscapes_takes_any_label_type_that_has_a_folder(tmp_path: Path) -> None:
    put(tmp_path, image("train"), label("gtRough", "train"), label("gtCoarse", "train"))
    source = open_images("cityscapes", str(tmp_path))
    (ref,) = source.list("train", labels="gtRough", coarse="gtRough")
    assert ref.labels == ref.coarse == label("gtRough", "train")
    assert source.list("train", coarse="gtSmooth")[0].coarse is None
    assert [source.has_label_type(kind) for kind in ("gtRough", "gtSmooth")] == [True, False]
    with pytest.raises(NotAStore, match=r"no folder gtSmooth/train .*found: gtCoarse, gtRough, leftImg8bit"):
        source.list("train", labels="gtSmooth")
    for kind in ("../gtRough", "", "leftImg8bit"):
        with pytest.raises(ValueError, match="a label type is a folder name such as gtFine, gtCoarse; got"):
            source.list("train", coarse=kind)


def test_cityscapes_keys_are_sorted_and_images_without_labels_stay(tmp_path: Path) -> None:
    put(tmp_path, *(image("val", name) for name in ("b_0_1", "a_0_1", "c_0_1")), label("gtFine", "val", "b_0_1"))
    refs = open_images("cityscapes", str(tmp_path)).list("val", labels="gtFine")
    assert [ref.key for ref in refs] == ["val/aachen/a_0_1", "val/aachen/b_0_1", "val/aachen/c_0_1"]
    assert [ref.labels is not None for ref in refs] == [False, True, False]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("leftImg8bit", "gtCoarse/gtCoarse"),
        ("leftImg8bit_trainextra/leftImg8bit", "gtCoarse"),
        ("leftImg8bit/leftImg8bit", "gtCoarse_trainextra/gtCoarse"),
    ],
)
def test_cityscapes_finds_every_nesting_of_the_archives(tmp_path: Path, images: str, labels: str) -> None:
    put(tmp_path, image("train_extra").replace("leftImg8bit", images, 1))
    put(tmp_path, label("gtCoarse", "train_extra").replace("gtCoarse", labels, 1))
    (ref,) = open_images("cityscapes", str(tmp_path)).list("train_extra", labels="gtCoarse", coarse="gtCoarse")
    assert ref.key == f"train_extra/aachen/{NAME}"
    assert ref.labels == ref.coarse == label("gtCoarse", "train_extra").replace("gtCoarse", labels, 1)


def test_cityscapes_merges_archives_unpacked_into_different_folders(tmp_path: Path) -> None:
    put(tmp_path, image("train", "a_0_0"), "leftImg8bit_trainvaltest/" + image("train", "b_0_0"))
    keys = [ref.key for ref in open_images("cityscapes", str(tmp_path)).list("train")]
    assert keys == ["train/aachen/a_0_0", "train/aachen/b_0_0"]


@pytest.mark.parametrize("second", [image("train", suffix="jpg"), "leftImg8bit_trainvaltest/" + image("train")])
def test_cityscapes_refuses_two_images_for_one_key(tmp_path: Path, second: str) -> None:
    put(tmp_path, image("train"), second)
    with pytest.raises(ValueError, match=rf"two files claim the key train/aachen/{NAME}.*remove one"):
        open_images("cityscapes", str(tmp_path)).list("train")


def test_several_splits_are_listed_as_one(tmp_path: Path) -> None:
    put(tmp_path, image("train"), image("val"), label("gtFine", "train"), label("gtFine", "val"))
    source = open_images("cityscapes", str(tmp_path))
    train, val = (source.list(split, labels="gtFine") for split in ("train", "val"))
    assert source.list("val, train", labels="gtFine") == [*train, *val]
    with pytest.raises(ValueError, match="splits must be distinct; got 'val,val'"):
        source.list("val,val")
    with pytest.raises(NotAStore, match="tset"):
        source.list("train,tset")
    with pytest.raises(ValueError, match="split must be a folder name"):
        source.list("train,")


def test_cityscapes_reads_a_jpeg_tree(tmp_path: Path) -> None:
    put(tmp_path, image("train", suffix="JPG"))
    assert open_images("cityscapes", str(tmp_path)).list("train")[0].image.endswith(".JPG")


def test_folder_named_like_an_image_is_listed_and_fails_on_reading(tmp_path: Path) -> None:
    put(tmp_path, image("train"), image("train", "dir_0_0") + "/inside.txt")
    source = open_images("cityscapes", str(tmp_path))
    folder, good = sorted(source.list("train"), key=lambda ref: "dir" not in ref.key)
    assert folder.key == "train/aachen/dir_0_0"
    assert source.read(good.image)
    with pytest.raises(BadImage, match="a folder stands where an image file was expected"):
        source.read(folder.image)


def test_empty_files_and_vanished_files_are_told_apart_from_storage_trouble(tmp_path: Path) -> None:
    put(tmp_path, image("train"))
    (tmp_path / image("train")).write_bytes(b"")
    source = open_images("cityscapes", str(tmp_path))
    (ref,) = source.list("train")
    assert source.read(ref.image) == b""
    (tmp_path / image("train")).unlink()
    with pytest.raises(BadImage, match="listed but is gone"):
        source.read(ref.image)
    shutil.rmtree(tmp_path / "leftImg8bit")
    with pytest.raises(OSError, match=r"nothing is left below .* still mounted"):
        source.read(ref.image)


def test_missing_split_names_the_splits_that_exist(tmp_path: Path) -> None:
    put(tmp_path, image("train"), image("val"))
    source = open_images("cityscapes", str(tmp_path))
    with pytest.raises(NotAStore, match=r"no folder leftImg8bit/train_extra below .*found for leftImg8bit: train, val"):
        source.list("train_extra")
    with pytest.raises(
        NotAStore, match=r"no folder gtFine/train below .*there is no gtFine folder; found: leftImg8bit"
    ):
        source.list("train", labels="gtFine")


def test_wrong_names_in_a_split_are_shown_with_the_expected_pattern(tmp_path: Path) -> None:
    put(tmp_path, "leftImg8bit/train/aachen/photo.png")
    with pytest.raises(NotAStore, match=r"no file named \*_leftImg8bit.png or .jpg in leftImg8bit/train"):
        open_images("cityscapes", str(tmp_path)).list("train")


@pytest.mark.parametrize("split", ["", "../train", "a/b", ".hidden"])
def test_split_cannot_lead_out_of_the_tree(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match="split must be a folder name"):
        open_images("cityscapes", str(tmp_path)).list(split)


def test_roots_that_are_no_folder_are_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "file")
    with pytest.raises(NotAStore, match=r"root .*/nowhere does not exist"):
        open_images("cityscapes", str(tmp_path / "nowhere"))
    with pytest.raises(NotAStore, match="is a file, not a folder"):
        open_images("folder", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="dataset must be one of cityscapes, mapillary, coco, folder; got 'kitti'"):
        open_images("kitti", str(tmp_path))
    with pytest.raises(ValueError, match="cannot open nosuch://"):
        open_images("folder", "nosuch://bucket")


def test_sources_survive_pickling_and_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, image("train"))
    monkeypatch.chdir(tmp_path.parent)
    source = open_images("cityscapes", tmp_path.name)
    monkeypatch.chdir("/")
    copy: Any = pickle.loads(pickle.dumps(source))
    assert copy.read(copy.list("train")[0].image) == image("train").encode()
    assert copy.root == str(tmp_path)


def test_linked_cities_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    put(tmp_path / "disk", "aachen/a_0_0_leftImg8bit.png")
    (tmp_path / "leftImg8bit/train").mkdir(parents=True)
    (tmp_path / "leftImg8bit/train/aachen").symlink_to(tmp_path / "disk/aachen")
    (tmp_path / "disk/aachen/again").symlink_to(tmp_path / "disk/aachen")
    refs = open_images("cityscapes", str(tmp_path)).list("train")
    assert [ref.key for ref in refs] == ["train/aachen/a_0_0"]


def test_folder_takes_images_at_any_depth_and_skips_hidden_ones(tmp_path: Path) -> None:
    put(tmp_path, "b.JPEG", "a/c.png", "a/d.Jpg", "a/e.txt", ".cache/f.png", "a/._c.png", "z.png/inside.png")
    refs = open_images("folder", str(tmp_path)).list("any")
    assert [ref.key for ref in refs] == ["a/c.png", "a/d.Jpg", "b.JPEG", "z.png"]
    with pytest.raises(ValueError, match="a plain folder holds no labels"):
        open_images("folder", str(tmp_path)).list("any", labels="gtFine")


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "readme.txt")
    with pytest.raises(NotAStore, match=r"no .png, .jpg or .jpeg file anywhere below"):
        open_images("folder", str(tmp_path)).list("")


def test_names_that_are_not_utf8_get_a_key_that_tables_can_hold(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"stra\xdfe.png")).write_bytes(b"x")
    source = open_images("folder", str(tmp_path))
    (ref,) = source.list("")
    assert ref.key == "stra\\udcdfe.png"
    assert source.read(ref.image) == b"x"


def vistas_config() -> bytes:
    labels = [
        {"name": "animal--bird", "readable": "Bird", "evaluate": True, "color": [165, 42, 42]},
        {"name": "void--unlabeled", "readable": "Unlabeled", "evaluate": False, "color": [0, 0, 0]},
        {"name": "construction--flat--road", "readable": "Road", "evaluate": True, "color": [128, 64, 128]},
    ]
    return json.dumps({"version": "1.1", "labels": labels}).encode()


@pytest.mark.parametrize("folder", ["labels", "v1.2/labels"])
def test_mapillary_pairs_images_with_labels_of_both_layouts(tmp_path: Path, folder: str) -> None:
    put(tmp_path, "training/images/b.jpg", "training/images/a.jpg", f"training/{folder}/a.png")
    refs = open_images("mapillary", str(tmp_path)).list("train", labels="gtFine")
    assert [(ref.key, ref.labels) for ref in refs] == [
        ("training/a", f"training/{folder}/a.png"),
        ("training/b", None),
    ]


def test_mapillary_class_table_keeps_evaluated_classes_in_config_order(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(vistas_config())
    source: Any = open_images("mapillary", str(tmp_path))
    table = source.class_table()
    assert table["names"] == ["Bird", "Road"]
    assert table["colours"] == [[165, 42, 42], [128, 64, 128]]
    assert table["raw_ids"] == [0, 2]
    assert table["ignore_index"] == 255


def test_mapillary_errors_name_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path, "training/images/a.jpg")
    source: Any = open_images("mapillary", str(tmp_path))
    with pytest.raises(NotAStore, match=r"no config_v1.2.json, config.json or config_v2.0.json below .*: training"):
        source.class_table()
    with pytest.raises(NotAStore, match=r"no label PNG in training/v1.2/labels or training/labels"):
        source.list("training", labels="gtFine")
    with pytest.raises(NotAStore, match="no image in validation/images"):
        source.list("val")
    with pytest.raises(ValueError, match="give one with --split: training, validation, testing"):
        source.list("train_extra")
    (tmp_path / "config.json").write_text('{"labels": [{"readable": "Bird"}]}')
    with pytest.raises(ValueError, match=r"config.json .*a label lacks 'color'"):
        source.class_table()


def test_mapillary_takes_instances_beside_the_labels_it_takes(tmp_path: Path) -> None:
    for edition in ("v1.2", "v2.0"):
        put(tmp_path, *(f"training/{edition}/{kind}/a.png" for kind in ("labels", "instances", "panoptic")))
    put(tmp_path, "training/images/a.jpg", "config_v1.2.json", "config_v2.0.json")
    refs = [open_images("mapillary", str(tmp_path)).list("train", labels="gtFine")[0]]
    put(tmp_path, "training/v1.2/panoptic/panoptic_2018.json")  # without it the PNG files say nothing
    refs += open_images("mapillary", str(tmp_path)).list("train", labels="gtFine")
    (tmp_path / "config_v1.2.json").unlink()
    refs += open_images("mapillary", str(tmp_path)).list("train", labels="gtFine")
    places = ("v1.2/instances", "v1.2/panoptic", "v2.0/instances")
    assert [ref.instances for ref in refs] == [f"training/{place}/a.png" for place in places]
    assert refs[2].labels == "training/v2.0/labels/a.png"
    assert open_images("mapillary", str(tmp_path)).list("train")[0].instances is None


def test_coco_pairs_images_with_the_files_that_its_json_names(tmp_path: Path) -> None:
    put(tmp_path, "images/val2017/a.jpg", "images/val2017/b.jpg", "images/val2017/c.jpg")
    put(tmp_path, "annotations/panoptic_val2017/one.png", "annotations/panoptic_val2017/c.png")
    write_panoptic_json(tmp_path, "val2017", {"a.jpg": "one.png", "b.jpg": "gone.png"})
    refs = open_images("coco", str(tmp_path)).list("val", labels="gtFine")
    assert [ref.key for ref in refs] == ["val2017/a", "val2017/b", "val2017/c"]
    assert [ref.labels for ref in refs] == ["annotations/panoptic_val2017/one.png", None, None]
    assert [ref.instances for ref in refs] == [ref.labels for ref in refs]
    assert open_images("coco", str(tmp_path)).list("val2017")[0].labels is None


def test_coco_images_may_lie_where_the_json_says(tmp_path: Path) -> None:
    put(tmp_path, "leftImg8bit/a.png", "annotations/panoptic_gtAuto/x/a.png")
    write_panoptic_json(tmp_path, "gtAuto", {"leftImg8bit/a.png": "x/a.png"})
    source: Any = open_images("coco", str(tmp_path))
    (ref,) = source.list("gtAuto", labels="gtFine")
    assert (ref.key, ref.image) == ("gtAuto/leftImg8bit/a", "leftImg8bit/a.png")
    assert source.regions(str(ref.labels)).ids.tolist() == [7]
    assert pickle.loads(pickle.dumps(source)).regions(str(ref.labels)).raw_ids.tolist() == [1]


def test_coco_errors_name_what_is_missing(tmp_path: Path) -> None:
    source: Any = open_images("coco", str(tmp_path))
    with pytest.raises(NotAStore, match=r"no annotations/panoptic_<split>.json below .*found: nothing"):
        source.class_table()
    with pytest.raises(NotAStore, match=r"no image in train_extra or images/train_extra below .*found: nothing"):
        source.list("train_extra")
    put(tmp_path, "val2017/a.jpg", "annotations/panoptic_val2017.zip")
    with pytest.raises(NotAStore, match=r"no image in train2017 or images/train2017 below .*--split: val2017$"):
        source.list("train")
    with pytest.raises(NotAStore, match=r"no folder leftImg8bit/train .*it looks like COCO: use --dataset coco"):
        open_images("cityscapes", str(tmp_path)).list("train")
    with pytest.raises(NotAStore, match=r"no annotations/panoptic_val2017.json below .*found: panoptic_val2017.zip"):
        source.list("val", labels="gtFine")
    write_panoptic_json(tmp_path, "val2017", {"a.jpg": "a.png"})
    with pytest.raises(NotAStore, match=r"no PNG file in annotations/panoptic_val2017 below .*unpack its archive"):
        source.list("val", labels="gtFine")
    with pytest.raises(ValueError, match="COCO has fine labels only"):
        source.list("val", labels="gtCoarse")
    write_panoptic_json(tmp_path, "other", {"a.jpg": "a.png"}, category=255)
    with pytest.raises(ValueError, match="has 1 categories with ids up to 255; at most 253 with ids up to 254"):
        source.list("other")
    write_panoptic_json(tmp_path, "third", {"a.jpg": "a.png"}, category=2)
    assert source.class_table()["names"] == ["person"]
    with pytest.raises(ValueError, match=r"panoptic_third.json and .*panoptic_val2017.json .* different categories"):
        source.list("third")


def write_panoptic_json(root: Path, split: str, pngs: dict[str, str], category: int = 1) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(pngs)]
    regions = [{"id": 7, "category_id": category, "iscrowd": 0}]
    annotations = [
        {"image_id": number, "file_name": png, "segments_info": regions} for number, png in enumerate(pngs.values())
    ]
    categories = [{"id": category, "name": "person", "isthing": 1}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path = root / f"annotations/panoptic_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def test_cityscapes_lists_instance_ids_of_the_asked_kind(tmp_path: Path) -> None:
    put(tmp_path, image("train"), label("gtFine", "train"), label("gtCoarse", "train"))
    put(tmp_path, label("gtFine", "train").replace("labelIds", "instanceIds"))
    source = open_images("cityscapes", str(tmp_path))
    (fine,), (coarse,) = source.list("train", labels="gtFine"), source.list("train", labels="gtCoarse")
    assert fine.instances == label("gtFine", "train").replace("labelIds", "instanceIds")
    assert (coarse.instances, source.list("train")[0].instances) == (None, None)


@pytest.fixture
def memory_root() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    yield "memory://tree"
    if filesystem.exists("/tree"):
        filesystem.rm("/tree", recursive=True)


def test_trees_in_memory_read_like_trees_on_disk(memory_root: str) -> None:
    filesystem = fsspec.filesystem("memory")
    for path in (image("train"), label("gtFine", "train"), image("train", "dir_0_0") + "/x"):
        filesystem.pipe(f"/tree/{path}", path.encode())
    source = open_images("cityscapes", memory_root)
    folder, good = sorted(source.list("train", labels="gtFine"), key=lambda ref: ref.labels is not None)
    assert source.read(str(good.labels)) == label("gtFine", "train").encode()
    with pytest.raises(BadImage, match="a folder stands"):
        source.read(folder.image)


@pytest.fixture(scope="module")
def s3_bucket() -> Iterator[str]:
    """An empty bucket on a local S3 server that plain AWS variables lead to."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("images")
        yield "s3://images/tree"
    server.stop()


def test_trees_on_s3_are_listed_without_a_request_per_file(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = s3fs.S3FileSystem()
    names = [f"a_0_{number}" for number in range(12)]
    for name in names:
        filesystem.pipe_file(f"images/tree/{image('train', name)}", name.encode())
    filesystem.pipe_file(f"images/tree/{image('train', 'dir_0_0')}/x", b"")
    calls: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *given: Any, **named: Any) -> Any:
        calls.append(method)
        return await call(self, method, *given, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    source = open_images("cityscapes", s3_bucket)
    refs = source.list("train")
    assert [ref.key for ref in refs] == sorted(f"train/aachen/{name}" for name in [*names, "dir_0_0"])
    assert len(calls) < len(names)
    assert source.read(refs[0].image) == b"a_0_0"
    with pytest.raises(BadImage, match="a folder stands"):
        source.read(refs[-1].image)


def test_a_coco_tree_on_s3_is_listed_without_a_request_per_file(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:012}" for number in range(20)]
    put(tmp_path, *(f"val2017/{name}.jpg" for name in names))
    put(tmp_path, *(f"annotations/panoptic_val2017/{name}.png" for name in names))
    write_panoptic_json(tmp_path, "val2017", {f"{name}.jpg": f"{name}.png" for name in names})
    s3fs.S3FileSystem().put(str(tmp_path), f"{s3_bucket}/coco", recursive=True)
    calls: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *given: Any, **named: Any) -> Any:
        calls.append(method)
        return await call(self, method, *given, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    source: Any = open_images("coco", f"{s3_bucket}/coco")
    refs = source.list("val", labels="gtFine")
    assert [ref.key for ref in refs] == [f"val2017/{name}" for name in names]
    assert all(ref.instances for ref in refs)
    assert len(calls) < len(names)
    assert source.regions(str(refs[3].instances)).raw_ids.tolist() == [1]


def test_missing_trees_on_s3_are_refused_by_name(s3_bucket: str) -> None:
    with pytest.raises(NotAStore, match=r"root s3://images/nowhere does not exist"):
        open_images("cityscapes", "s3://images/nowhere")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the CamVid tree is not beside the repository")
def test_camvid_is_listed_whole() -> None:
    source = open_images("cityscapes", str(CAMVID))
    found = {split: source.list(split, labels=kind) for split, kind in (("train", "gtFine"), ("val", "gtFine"))}
    assert {split: len(refs) for split, refs in found.items()} == {"train": 62, "val": 101}
    assert all(ref.labels for refs in found.values() for ref in refs)
    extra = source.list("train_extra", labels="gtCoarse", coarse="gtCoarse")
    assert len(extra) == 305
    assert all(ref.labels == ref.coarse is not None for ref in extra)
