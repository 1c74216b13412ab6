"""The mistakes of a first hour: each is one line that names what is wrong and what to type instead."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.fake_teacher import fake_arguments

SECRET = "wJalr/hunter2/EXAMPLE"


@pytest.fixture
def refused(call):
    """`refused("run", ...)` gives the one line of a call that ends with exit code 2, without `Error: `."""

    def refused(*args):
        result = call(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ")
        assert "--debug" not in line
        return line.removeprefix("Error: ")

    return refused


@pytest.fixture
def run_args(street_images):
    """The arguments of a run that works, but for what a test puts in place of them (the last one counts)."""
    data = ("--data", street_images, "--split", "train", "--store", street_images / "labels")
    return ("run", *fake_arguments(), "--executor", "local", "--workers", "1", *data)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def test_photos_without_a_layout_are_told_the_option(refused, run_args, photos):
    line = refused(*run_args, "--data", photos)
    assert line == (
        f"no folder leftImg8bit/train below {photos}; there is no leftImg8bit folder; "
        "found: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more; "
        "for photos in a folder, or in folders of it, use --dataset folder"
    )
    line = refused(*run_args, "--data", photos.parent / "leftImg8bit", "--dataset", "mapillary", "--split", "val")
    assert line.endswith(f"that is inside a Cityscapes tree: use --data {photos.parent}")
    (photos.parent / "albums").mkdir()
    shutil.move(photos, photos.parent / "albums")
    assert refused(*run_args, "--data", photos.parent / "albums").endswith("in folders of it, use --dataset folder")


@pytest.mark.parametrize("folder", ["leftImg8bit", "leftImg8bit/train", "leftImg8bit/train/town", "gtFine"])
def test_data_inside_a_tree_is_told_its_root(refused, run_args, street_images, folder):
    line = refused(*run_args, "--data", street_images / folder)
    assert line.endswith(f"; that is inside a Cityscapes tree: use --data {street_images}")


def test_data_above_a_tree_is_told_its_root(refused, run_args, street_images, tmp_path):
    above = tmp_path / "above"
    shutil.copytree(street_images / "leftImg8bit", above / "tree" / "leftImg8bit")
    line = refused(*run_args, "--data", above)
    assert line.endswith(f"; a Cityscapes tree is one level down: use --data {above}/tree")


def test_other_layouts_and_splits_are_recognized(refused, run_args, street_images, tmp_path):
    line = refused(*run_args, "--split", "trian")
    assert line.endswith("splits found for leftImg8bit: train, train_extra, val; give one with --split")
    (tmp_path / "vistas/training/images").mkdir(parents=True)
    assert refused(*run_args, "--data", tmp_path / "vistas").endswith("use --dataset mapillary")
    line = refused(*run_args, "--dataset", "mapillary", "--split", "training")
    assert line.endswith("it looks like a Cityscapes tree: use --dataset cityscapes")
    known = "give one with --split: training, validation, testing"
    line = refused(*run_args, "--dataset", "mapillary", "--split", "x")
    assert line == f"Mapillary Vistas has no split 'x'; {known}"
    ungiven = [argument for argument in run_args if argument not in ("--split", "train")]
    line = refused(*ungiven, "--dataset", "mapillary")
    assert line == (
        "Mapillary Vistas has no split 'train_extra' (without --split `run` takes train_extra, which Cityscapes has); "
        + known
    )


def test_missing_root_and_a_file_as_root_are_told_apart(refused, run_args, photos):
    none, file = photos / "none", photos / "0.png"
    assert refused(*run_args, "--data", none) == f"the data root {none} does not exist; correct --data"
    line = refused(*run_args, "--data", file)
    assert line == f"the data root {file} is a file, not a folder; name the folder that holds it"


@pytest.mark.parametrize("command", [["run"], ["evaluate"], ["train-teacher", "--output", "out"]])
def test_device_gpu_is_told_what_gpus_are_called(refused, run_args, street_images, command):
    args = run_args if command == ["run"] else [*command, "--data", street_images]
    weights = [] if command[0] == "train-teacher" else ["--weights", "w.pth"]
    line = refused(*args, *weights, "--device", "gpu")
    assert line == "unknown device 'gpu'; use auto, cpu, cuda or cuda:N (an NVIDIA GPU is cuda)"


@pytest.mark.parametrize("command", [("run",), ("runs",), ("status",), ("audit", "log"), ("audit", "verify")])
def test_store_that_is_a_file_is_named(refused, run_args, photos, command):
    args = run_args if command == ("run",) else command
    file = photos / "0.png"
    line = refused(*args, "--store", file)
    assert line == f"the store {file} is a file, not a folder; name a folder with --store"
    assert refused(*args, "--store", file / "labels").startswith(f"{file}, above the store {file}/labels, is a file")


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_weights_that_are_missing_or_a_folder_are_named_before_a_worker_starts(refused, run_args, photos, executor):
    args = [*run_args, "--executor", executor]
    line = refused(*args, "--weights", photos / "none.pth")
    assert line.startswith(f"no weights file at {photos}/none.pth; train one with")
    line = refused(*args, "--weights", photos)
    assert line == f"the weights {photos} are a folder; name a file in it, such as {photos}/best.safetensors"


def test_s3_without_credentials_is_told_at_once_where_they_are_looked_for(refused, run_args, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(
        "hmsa_label.pipeline.engine.retry.time.sleep", lambda seconds: pytest.fail("it was tried again")
    )
    for args in (
        [*run_args, "--store", "s3://nobodys/labels"],
        [*run_args, "--data", "s3://nobodys/images"],
        ["audit", "log", "--store", "s3://nobodys/labels"],
    ):
        line = refused(*args)
        assert "S3 asks for credentials and none were found" in line
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give data-options and" in line


@pytest.mark.parametrize("url", [f"s3://AKIAX:{SECRET}@bucket/place", "s3a://AKIAX@bucket/place",
                                 f"s3://bucket/place?aws_secret_access_key={SECRET}"])  # fmt: skip
@pytest.mark.parametrize("option", ["--store", "--data", "--weights"])
def test_credentials_in_an_s3_url_are_refused_and_never_shown(call, run_args, street_images, url, option):
    result = call(*run_args, option, url, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"].startswith(
        f"the URL of {url[: url.index('//')]}//bucket/place holds cred"
    )
    for secret in ("AKIAX", "hunter2", "wJalr"):
        assert secret not in result.output + result.stderr
    assert not (street_images / "labels").exists()


def test_credentials_are_refused_wherever_a_store_is_named(refused):
    for command in (["runs"], ["audit", "log"], ["export", "out"], ["rethreshold", "--threshold", "0.8"]):
        assert "holds credentials; leave them out and set AWS_" in refused(*command, "--store", f"s3://A:{SECRET}@b/c")


def test_photos_that_are_to_be_trained_on_or_scored_are_told_what_labels_need(refused, photos):
    told = "; photos alone have no labels: these lie beside images as in Cityscapes or Mapillary Vistas"
    for command in (["train-teacher", "--output", "out"], ["evaluate", "--weights", "w.pth"]):
        assert refused(*command, "--data", photos).endswith(told)


@pytest.mark.parametrize("option", ["--data", "--weights", "--store"])
def test_empty_path_is_told_by_its_option(refused, run_args, option):
    assert refused(*run_args, option, "") == f"{option} is empty; give a path, or a URL such as s3://bucket/folder"


def test_list_with_spaces_is_told_its_spelling(refused, run_args):
    line = refused(*run_args, "--scales", "0.5", "1.0")
    assert "a list is written with commas, such as 0.5,1.0" in line
    assert line.endswith("; try 'main run --help'")


def test_output_that_cannot_be_written_is_refused_before_a_teacher_is_loaded(refused, photos, tmp_path):
    image, args = photos / "0.png", ["--weights", tmp_path / "none.pth", "--output"]
    assert "give --output a name that ends in .png" in refused("explain", image, *args, "x.jpg")
    (tmp_path / "folder.png").mkdir()
    assert refused("explain", image, *args, tmp_path / "folder.png").endswith("give --output the name of a file in it")


def test_file_in_the_way_of_a_folder_is_named(refused, labeled_tree, photos):
    line = refused("export", "--store", labeled_tree / "labels", photos / "0.png")
    assert line.startswith(f"Not a directory: {photos}/0.png/")
    assert line.endswith("; a file stands where a folder is needed, choose another place")


def test_folder_of_photos_has_no_split_in_its_plan(call, run_args, photos):
    result = call(*run_args, "--data", photos, "--dataset", "folder", "--dry-run")
    assert f"data     {photos}\n" in result.stdout
