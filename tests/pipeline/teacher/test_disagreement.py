"""Where the views of a teacher disagree: counted as by hand, with the same labels, refused of a single view."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.base import LabelerBase, LabelerFault, TopClass
from hmsa_label.labelers.hmsa.scale_chain import scaled_size
from hmsa_label.labelers.inference.fused_rows import FusedLogits
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.evidence_kinds import refuse_evidence
from hmsa_label.pipeline.teacher.evidence_maps import disagreement_of
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake

GRID, RULE = np.array([0.06, 0.08, 0.1, 0.2], np.float32), Rule(0.08)
NAMES = {"hierarchical": "hrnet_tiny_ocr", "explicit": "hrnet_tiny_ocr_explicit"}


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """(network, path of its file) with hierarchical and with explicit attention, whose scales see different classes."""
    folder, found = tmp_path_factory.mktemp("weights"), {}
    for name in NAMES.values():
        torch.manual_seed(0)
        net = build_labeler(name, 19).eval()
        info = {"model": name, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        path = folder / f"{name}.safetensors"
        path.write_bytes(encode_checkpoint(net, info))
        found[name] = net, str(path)
    return found


def random_images(count=2, height=48, width=80):
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def teacher(path, **options):
    more = {name: options.pop(name) for name in ("max_memory_gb",) if name in options}
    return Teacher(TeacherConfig(weights=path, device="cpu", options=options, **more))


def views_by_hand(net, image, scales, flip):
    """[V, H, W] classes of each pass alone, whole maps resized by torch."""
    views = []
    with torch.inference_mode():
        x = net.normalize(torch.from_numpy(image)[None])
        for mirrored in (False, True)[: 1 + flip]:
            for scale in scales:
                scaled = resize(x.flip(3) if mirrored else x, scaled_size(*x.shape[-2:], scale))
                logits = resize(net(scaled).logits, x.shape[-2:])
                views.append((logits.flip(3) if mirrored else logits).argmax(1)[0].numpy())
    return np.stack(views)


def test_views_with_another_class_are_counted_and_void_has_none():
    top1 = torch.tensor([[[1, 1], [2, 255]]], dtype=torch.uint8)
    views = [torch.tensor([[[1, 2], [2, 0]]]), torch.tensor([[[1, 2], [0, 0]]])]
    assert disagreement_of(top1, views).tolist() == [[[0, 2], [1, 2]]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("fusion", ["hierarchical", "average", "max", "explicit"])
def test_each_scale_and_mirror_image_counts_as_worked_with_whole_maps(nets, fusion, flip):
    net, path = nets[NAMES.get(fusion, "hrnet_tiny_ocr")]
    made = teacher(path, scales=(0.5, 1.0, 2.0), fusion=fusion, flip=flip)
    assert made.info["views"] == (6 if flip else 3)
    images = random_images()
    plain = made.label(images, GRID, RULE, True)
    for image, before, one in zip(images, plain, made.label(images, GRID, RULE, True, disagreement=True), strict=True):
        assert set(one.arrays) == {"label", "top1", "code", "disagreement"}
        assert all(np.array_equal(one.arrays[name], before.arrays[name]) for name in before.arrays)
        assert one.mean_confidence == before.mean_confidence
        views = views_by_hand(net, image, (0.5, 1.0, 2.0), flip)
        expected = (views != one.arrays["top1"]).sum(0)
        assert len(np.unique(expected)) > 1
        assert (one.arrays["disagreement"] == expected).mean() > 0.995  # sums in another order, and near ties


def test_windows_count_views_of_their_own_and_labels_stay_the_same(nets):
    _, path = nets["hrnet_tiny_ocr"]
    (image,) = random_images(1, 128, 1024)
    tight = teacher(path, scales=(0.5, 1.0), max_memory_gb=0.024)
    plain = tight.label([image], GRID, RULE, True)[0]
    tiled = tight.label([image], GRID, RULE, True, disagreement=True)[0]
    assert tiled.tiles == plain.tiles == "1 x 2 tiles of 128 x 640 px"
    assert all(np.array_equal(tiled.arrays[name], plain.arrays[name]) for name in plain.arrays)
    cut = (384 + 640) // 2  # the windows meet in the middle of what both see
    for window, kept, of_window in (
        (slice(0, 640), slice(0, cut), slice(0, cut)),
        (slice(384, 1024), slice(cut, 1024), slice(cut - 384, 640)),
    ):
        alone = tight.label([image[:, window].copy()], GRID, RULE, True, disagreement=True)[0]
        assert alone.tiles is None
        found, expected = tiled.arrays["disagreement"][:, kept], alone.arrays["disagreement"][:, of_window]
        np.testing.assert_array_equal(found, expected)


def test_memory_is_counted_alike_whether_views_are_asked_for_or_not(nets, monkeypatch):
    """Else an image near the limit would be cut for its evidence, and have other labels."""
    _, path = nets["hrnet_tiny_ocr"]
    several, single = (teacher(path, scales=scales)._labeler._room for scales in ((0.5, 1.0), (1.0,)))
    asked = []
    monkeypatch.setattr(FusedLogits, "views", lambda fused, *rows: asked.append(rows) or [])
    single._pass(single._net, torch.zeros(32, 64, 3, dtype=torch.uint8))
    assert not asked
    several._pass(several._net, torch.zeros(32, 64, 3, dtype=torch.uint8))
    assert asked == [(0, 32)]


def test_a_single_view_is_refused_in_one_line(nets):
    _, path = nets["hrnet_tiny_ocr"]
    made = teacher(path, scales=(1.0,))
    line = r"the teacher hrnet_tiny_ocr takes its labels from a single prediction, .* by its own options .* or leave"
    with pytest.raises(ValueError, match=line):
        made.label(random_images(), GRID, RULE, True, disagreement=True)
    refuse_evidence(["disagreement", "top2"], teacher(path, scales=(1.0,), flip=True).info)
    refuse_evidence(["growth"], made.info)


def test_more_views_than_a_code_counts_are_refused():
    with pytest.raises(ValueError, match=r"the teacher x has 254 views, and at most 253"):
        refuse_evidence(["disagreement"], {"model": "x", "views": 254})


class TwoSides:
    """A labeler of a user's own: an image and its mirror image, averaged."""

    classes = CITYSCAPES
    num_views = 2
    asked: tuple[str, ...] = ()

    def __init__(self, weights, device):
        self.asked = ()

    def _look(self, images):
        return torch.nn.functional.one_hot((images[..., 0] // 14).long(), 19).permute(0, 3, 1, 2).float()

    def predict(self, images):
        self.asked += ("predict",)
        return self.predict_views(images)[0]

    def predict_views(self, images):
        self.asked += ("predict_views",)
        straight, mirrored = self._look(images), self._look(images.flip(2)) * 2
        return straight + mirrored, [straight.argmax(1), mirrored.argmax(1)]


class WithoutViews(LabelerBase):
    classes = CITYSCAPES
    num_views = 2
    gives = "top1"

    def __init__(self, weights, device):
        pass

    def predict(self, images):
        return TopClass(images[..., 0] % 19, torch.ones(images.shape[:3]))


class TooFew(WithoutViews):
    def predict_views(self, images):
        return self.predict(images), [images[..., 0]]


class NoMaps(WithoutViews):
    def predict_views(self, images):
        return self.predict(images), [images[..., 0], images[..., 0].float()]


class NoCount(WithoutViews):
    num_views = 0


def own(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "disagreeing", sys.modules[__name__])
    return TeacherConfig(weights=None, teacher=f"disagreeing:{name}", device="cpu")


def test_labeler_of_a_users_own_tells_its_views_and_is_not_asked_without_need(monkeypatch):
    made, image = Teacher(own("TwoSides", monkeypatch)), random_images(1)[0]
    plain = made.label([image], GRID, RULE, True)[0]
    assert made._labeler.asked == ("predict", "predict_views")  # predict calls it itself
    told = made.label([image], GRID, RULE, True, disagreement=True)[0]
    assert made._labeler.asked[2:] == ("predict_views",)
    np.testing.assert_array_equal(told.label, plain.label)
    classes = image[..., 0] // 14
    np.testing.assert_array_equal(told.arrays["top1"], classes[:, ::-1])
    np.testing.assert_array_equal(told.arrays["disagreement"], classes != classes[:, ::-1])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("WithoutViews", r"num_views = 2 needs a method predict_views\(images\), or in_parts with an argument views"),
        ("TooFew", r"a map of trainIds \[1, 48, 80\] for each of its 2 views; it gave 1"),
        ("NoMaps", r"for each of its 2 views; one is \[1, 48, 80\] float32"),
    ],
)
def test_labeler_that_does_not_give_what_it_says_is_told_so(monkeypatch, name, line):
    made = Teacher(own(name, monkeypatch))
    made.label(random_images(1), GRID, RULE, True)
    with pytest.raises(LabelerFault, match=line):
        made.label(random_images(1), GRID, RULE, True, disagreement=True)


def test_number_of_views_that_is_none_is_refused(monkeypatch):
    with pytest.raises(LabelerFault, match="num_views must be 1 or more; it is 0"):
        Teacher(own("NoCount", monkeypatch))


def test_provenance_does_not_hold_how_many_views_there_are(nets):
    _, path = nets["hrnet_tiny_ocr"]
    fused = replace(fake(instances=True), semantic_from=path, semantic_settings={"scales": [0.5, 1.0]})
    assert "views" not in Teacher(fused).info["semantics"]
