"""What pages find in their folder: streets, photos, a teacher, its labels and a student, all tiny and made once."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.demo.scenes.tree import draw_tree
from tests.atomic_s3 import make_puts_atomic
from tests.docs.pages import Page
from tests.docs.session import Session

STEPS = {
    "teacher": "hmsa-label train-teacher --data streets --output teacher --loss ce --optimizer adamw",
    "labels": "hmsa-label run --data streets --weights teacher/best.safetensors --scales 0.5,1.0 --store labels",
    "student": "hmsa-label train-student --data streets --store labels --output student",
}
NEEDS = {
    "streets": (),
    "photos": (),
    "teacher": ("streets",),
    "labels": ("teacher",),
    "student": ("labels",),
    "demo": ("teacher",),
}


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`given("labels")` is a folder that holds `labels` and all that it was made from; to be copied, not changed."""
    made: dict[str, Path] = {}

    def given(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            for needed in NEEDS[name]:
                shutil.copytree(given(needed), folder, dirs_exist_ok=True)
            make(name, folder)
            made[name] = folder
        return made[name]

    return given


def make(name: str, folder: Path) -> None:
    if name == "streets":
        draw_tree(folder / "streets", {"train": 4, "val": 2, "train_extra": 4}, (64, 128))
    elif name == "photos":
        draw_photos(folder / "photos" / "drive1")
    elif name == "demo":
        for part in ("streets", "teacher"):
            shutil.move(folder / part, folder / "demo" / part)
    else:
        with pytest.MonkeyPatch.context() as env:
            code, printed = Session(folder, env).shell(STEPS[name])
        assert code == 0, printed


def draw_photos(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        Image.fromarray(rng.integers(0, 256, (64, 128, 3), np.uint8)).save(folder / f"{number:04}.jpg")


@pytest.fixture
def s3(given: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server that the AWS_* variables lead to, with the streets as `s3://bucket/cityscapes`."""
    import boto3
    from moto.server import ThreadedMotoServer

    make_puts_atomic()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    streets = given("streets") / "streets"
    for file in streets.rglob("*.*"):
        client.upload_file(str(file), "bucket", f"cityscapes/{file.relative_to(streets)}")
    yield
    server.stop()


@pytest.fixture
def follow(
    given: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[Page], None]]:
    """`follow(page)` runs a page from top to bottom in a fresh folder."""

    def follow(page: Page) -> None:
        for name in ("streets", *page.given):
            if name == "s3":
                request.getfixturevalue(name)
            else:
                shutil.copytree(given(name), tmp_path, dirs_exist_ok=True)
        monkeypatch.syspath_prepend(tmp_path)  # as for a script in that folder
        Session(tmp_path, monkeypatch).follow(page)

    yield follow
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
