"""A teacher on one device: labels, evidence, and what it refuses."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.hmsa.net import predict
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.records import Wanted
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.devices import arithmetic
from hmsa_label.pipeline.teacher.errors import NonFiniteLogits
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import code_of
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.source import BadImage

GRID = np.array([0.06, 0.08, 0.1, 0.2], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of tiny networks: hierarchical, explicit and single-scale."""
    folder = tmp_path_factory.mktemp("weights")
    for name, multi_scale in (("hrnet_tiny_ocr", True), ("hrnet_tiny_ocr_explicit", True), ("hrnet_tiny_ocr", False)):
        torch.manual_seed(0)
        net = build_labeler(name, 19, multi_scale=multi_scale)
        info = {"model": name, "multi_scale": multi_scale, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        file = folder / f"{name if multi_scale else 'single'}.safetensors"
        file.write_bytes(encode_checkpoint(net, info))
    return folder


def teacher(folder, name="hrnet_tiny_ocr", **options):
    own = {option: options.pop(option) for option in ("scales", "flip", "fusion") if option in options}
    weights = str(folder / f"{name}.safetensors")
    return Teacher(TeacherConfig(weights=weights, device="cpu", options=own, **options))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)


def test_labels_are_those_of_the_reference_order_of_operations(folder, image):
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 19).eval()
    with torch.inference_mode():
        x = net.normalize(torch.from_numpy(image)[None])
        confidence, top1 = predict(net, x, (0.5, 1.0, 2.0), "hierarchical", True)[0].softmax(0).max(0)
    labeled = teacher(folder, flip=True).label([image], GRID, Rule(0.08), True)[0]
    assert (labeled.arrays["top1"] == top1.numpy()).mean() > 0.999
    assert (labeled.arrays["code"] == code_of(confidence.numpy(), [float(t) for t in GRID])).mean() > 0.999
    assert labeled.mean_confidence == pytest.approx(float(confidence.mean()), rel=1e-4)
    assert np.array_equal(labeled.label, np.where(labeled.arrays["code"] >= 2, labeled.arrays["top1"], 255))


def test_images_of_a_batch_are_labeled_as_if_alone(folder, image):
    both = teacher(folder).label([image, image[::-1].copy()], GRID, Rule(0.08), True)
    alone = teacher(folder).label([image[::-1].copy()], GRID, Rule(0.08), True)
    assert np.array_equal(both[1].arrays["top1"], alone[0].arrays["top1"])
    assert np.array_equal(both[1].arrays["code"], alone[0].arrays["code"])


def test_without_evidence_only_labels_come_back(folder, image):
    labeled = teacher(folder).label([image], GRID, Rule(0.08), False)[0]
    assert list(labeled.arrays) == ["label"]
    assert labeled.label.shape == (48, 80)


def test_predict_gives_the_labels_that_a_run_would_store(folder, image):
    small = teacher(folder)
    stored = small.label([image], GRID, Rule(0.08), True)[0]
    found = small.predict(image, threshold=0.08)
    assert (found.label.shape, found.label.dtype, found.confidence.dtype) == ((48, 80), np.uint8, np.float32)
    assert np.array_equal(found.label, stored.label)
    assert np.array_equal(found.top1, stored.arrays["top1"])
    assert np.array_equal(code_of(found.confidence, [float(t) for t in GRID]), stored.arrays["code"])
    assert 0 < (found.label == 255).mean() < 1


def test_predict_follows_a_whole_rule(folder, image):
    small = teacher(folder, flip=True)
    plain = small.predict(image, threshold=0)
    assert (plain.label == plain.top1).all()
    margins = np.array([0.004], np.float32)
    (found,) = small.evidence([image], Wanted(thresholds=GRID, margins=margins, disagreement=True))
    sure = (found.arrays["margin"] >= 1) & (found.arrays["disagreement"] <= 1) & (plain.top1 != 0)
    sure[:5] = False
    asked = RuleConfig(
        threshold=0, margin=0.004, max_disagreement=1, border_px="5,0,0,0", class_thresholds="road=off,sky=0"
    )
    ruled = small.predict(image, rule=asked)
    assert np.array_equal(ruled.label, np.where(sure, plain.top1, 255))
    assert 0 < sure.mean() < 1
    assert np.array_equal(ruled.confidence, plain.confidence)
    with pytest.raises(ValueError, match="give a rule, or thresholds"):
        small.predict(image, 0.5, rule=asked)
    with pytest.raises(ValueError, match="no class 'raod'; did you mean 'road'"):
        small.predict(image, rule=RuleConfig(class_thresholds={"raod": 0.5}))


def test_predict_takes_views_and_arrays_that_may_not_be_written(folder, image):
    small, mirrored = teacher(folder), image[:, ::-1]
    read_only = mirrored.copy()
    read_only.flags.writeable = False
    assert np.array_equal(small.predict(mirrored).top1, small.predict(read_only).top1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((48, 80), np.uint8), r"\[height, width, 3\] uint8 RGB; got uint8 \[48, 80\]"),
        (np.zeros((3, 48, 80), np.uint8), r"got uint8 \[3, 48, 80\]"),
        (np.zeros((48, 80, 3), np.float32), r"got float32 \[48, 80, 3\]"),
        ("street.png", "got str"),
    ],
)
def test_predict_refuses_what_is_no_image_by_its_type_and_shape(folder, given, message):
    with pytest.raises(ValueError, match=message):
        teacher(folder).predict(given)


def test_predict_refuses_a_threshold_that_is_no_share(folder, image):
    with pytest.raises(ValueError, match="threshold must lie between 0 and 1, 1 excluded; got 90"):
        teacher(folder).predict(image, threshold=90)


def test_arg_max_in_blocks_is_that_of_the_whole(folder, image):
    small = teacher(folder)
    assert np.array_equal(small.top1(image), small.logits([image])[0].argmax(0).numpy())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("single", {}, "has no attention head, .*; use --scales 1.0 --fusion single, or --fusion average"),
        ("hrnet_tiny_ocr", {"fusion": "explicit"}, "has hierarchical attention; use --fusion hierarchical"),
        ("hrnet_tiny_ocr_explicit", {}, "has explicit attention; use --fusion explicit"),
    ],
)
def test_fusion_that_the_network_cannot_do_is_refused(folder, name, options, message):
    with pytest.raises(ValueError, match=message):
        teacher(folder, name, **options)


@pytest.mark.parametrize("fusion", ["average", "max"])
def test_pooling_works_without_attention(folder, image, fusion):
    assert teacher(folder, "single", fusion=fusion).info["fusion"] == fusion
    assert teacher(folder, "single", fusion=fusion).top1(image).max() < 19


def test_explicit_attention_labels(folder, image):
    labeled = teacher(folder, "hrnet_tiny_ocr_explicit", fusion="explicit").label([image], GRID, Rule(0.08), True)
    assert labeled[0].arrays["top1"].shape == (48, 80)


def test_image_of_which_a_scale_leaves_nothing_is_refused_by_itself(folder):
    made = teacher(folder, scales=(0.25, 1.0))
    sliver = np.zeros((3, 40, 3), np.uint8)
    for ask in (
        lambda: made.label([sliver], GRID, Rule(0.1), True),
        lambda: made.top1(sliver),
        lambda: made.explain(sliver),
    ):
        with pytest.raises(BadImage, match=r"3 x 40 px; the teacher's scale 0.25 needs 4 x 4 or more"):
            ask()
    assert made.top1(np.zeros((4, 40, 3), np.uint8)).shape == (4, 40)


def overflowing(folder, name, change):
    """Weights of the tiny network after a change; all of them are finite numbers."""
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 19)
    with torch.no_grad():
        change(net)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    (folder / f"{name}.safetensors").write_bytes(encode_checkpoint(net, info))
    return name


@pytest.mark.parametrize(
    ("name", "change", "precision", "message"),
    [
        ("inf", lambda net: net.head.class_head.weight.fill_(3e38), "fp32", r"logits at scale 2 in fp32; .*train it"),
        ("-inf", lambda net: net.head.class_head.weight[3].fill_(-3e38), "fp32", "logits at scale 2 in fp32"),
        ("nan", lambda net: net.attention.layers[0][0].weight.fill_(3e38), "fp32", "logits at scale 1 in fp32"),
        (
            "bf16",
            lambda net: net.head.class_head.weight.fill_(3e38),
            "bf16",
            "logits at scale 2 in bf16; use --precision fp32",
        ),
    ],
)
def test_image_with_infinite_logits_is_refused_and_precision_named(folder, image, name, change, precision, message):
    broken = teacher(folder, overflowing(folder, name, change), precision=precision)
    for ask in (
        lambda: broken.label([image], GRID, Rule(0.08), True),
        lambda: broken.top1(image),
        lambda: broken.explain(image),
    ):
        with pytest.raises(NonFiniteLogits, match=f"the network gave NaN or infinite {message}"):
            ask()


def test_infinite_attention_over_given_scales_is_refused(folder, image):
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr_explicit", 19).eval()
    with torch.no_grad():
        net.attention.mix[-1].weight.fill_(3e38)
    x = InferenceNet(net, torch.device("cpu"))
    with torch.inference_mode(), pytest.raises(FloatingPointError, match="NaN or infinite attention"):
        next(x.logit_blocks(torch.from_numpy(image), (0.5, 1.0, 2.0), "explicit", False, finite=True))


def test_a_teacher_leaves_torchs_settings_as_it_found_them(folder, image):
    def settings():
        return (
            torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.initial_seed(),
            torch.get_rng_state().tolist(),
        )  # fmt: skip

    torch.set_num_threads(2)
    try:
        before = settings()
        held = teacher(folder, cpu_threads=1)
        assert held.info["device"] == "cpu, 1 threads"
        held.top1(image), held.label([image], GRID, Rule(0.08), True), held.logits([image]), held.explain(image)
        assert settings() == before
        used = []
        hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: used.append(torch.get_num_threads()))
        held.top1(image)
        hook.remove()
        assert set(used) == {1}
    finally:
        torch.set_num_threads(1)


def test_convolutions_stay_exact_until_the_last_teacher_is_done():
    before = torch.backends.cudnn.allow_tf32
    gpu = torch.device("cuda")
    with arithmetic(gpu, "fp32", None):
        with arithmetic(gpu, "fp32", None):
            assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        with arithmetic(gpu, "bf16", None):
            pass
    assert torch.backends.cudnn.allow_tf32 == before
