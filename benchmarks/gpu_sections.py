"""What `gpu_hour.py` measures, section by section; each gives JSON-able figures, or raises.

Libraries are imported where they are used: a section whose libraries are missing fails alone.
"""

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hmsa_label.stores.format.rule import Rule

ROOT = Path(__file__).resolve().parents[1]
SCALES = (0.5, 1.0, 2.0)
NEEDED = ("click", "cv2", "deltalake", "fsspec", "matplotlib", "numcodecs", "numpy", "PIL", "pyarrow", "pytest")
NEEDED += ("pytest_timeout", "ray", "safetensors", "tqdm", "yaml", "zarr")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the things are that are measured.

    Attributes:
        image_px: (height, width). images: that `run` labels. repeats: of a pass. steps: of a training.
    """

    network: str
    small_network: str
    image_px: tuple[int, int]
    crop_px: tuple[int, int]
    images: int
    repeats: int
    steps: int


WHOLE = Size(
    network="hrnet_w48_ocr",
    small_network="hrnet_s_ocr",
    image_px=(1024, 2048),
    crop_px=(1024, 2048),
    images=32,
    repeats=5,
    steps=5,
)
SMALL = Size(
    network="hrnet_tiny_ocr",
    small_network="hrnet_tiny_ocr",
    image_px=(64, 128),
    crop_px=(64, 96),
    images=4,
    repeats=1,
    steps=2,
)


def machine(device: torch.device, size: Size) -> dict[str, Any]:
    """The device, what torch was built with, and which libraries are missing."""
    found: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "python": sys.version.split()[0]}
    found["missing"] = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def tests(device: torch.device, size: Size) -> dict[str, Any]:
    """All tests marked `gpu`: how many passed, and what failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        # only these files: others may need libraries that are not there, and are collected before they are left out
        files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", f"--junitxml={report}", *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if not report.exists():
            raise RuntimeError(f"pytest gave no report: {(done.stdout + done.stderr)[-800:]}")
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    rows, failed = [], []
    for case in cases:
        fault = next((case.find(kind) for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
        outcome = "passed" if fault is None else fault.tag
        rows.append({"test": case.get("name"), "outcome": outcome, "seconds": float(case.get("time", 0))})
        if fault is not None:
            rows[-1]["message"] = (fault.get("message") or "")[:400]
        if outcome in ("failure", "error"):
            failed.append(case.get("name"))
    if failed or not rows:
        raise SectionFailed(f"{len(failed)} of {len(rows)} tests failed: {', '.join(map(str, failed))}", {"rows": rows})
    return {"rows": rows}


def one_pass(device: torch.device, size: Size) -> dict[str, Any]:
    """One image with three scales and its mirror image: seconds and peak by precision, kernels, ways to go faster."""
    from seeded_teacher import drawn_image, seeded_network

    from hmsa_label.labelers.inference.net import InferenceNet
    from hmsa_label.pipeline.teacher.devices import dtype_of

    net, image = seeded_network(size.network), drawn_image(*size.image_px)
    precisions = ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    found: dict[str, Any] = {"image_px": size.image_px, "network": size.network, "rows": []}
    torch.backends.cudnn.allow_tf32 = False
    for precision in precisions:
        fast = InferenceNet(net, device, dtype_of(precision))

        def label(fast: InferenceNet = fast) -> None:
            fast.top1(image, SCALES, "hierarchical", True)

        # cuDNN's own search takes long, and only one precision is what is used
        for benchmark in (False, True) if device.type == "cuda" and precision == "bf16" else (False,):
            torch.backends.cudnn.benchmark = benchmark
            row = {"precision": precision, "cudnn_benchmark": benchmark, **timed(label, device, size.repeats)}
            found["rows"].append(row)
        torch.backends.cudnn.benchmark = False
        if precision == "bf16":
            found["kernels"] = profiled(label, device)
            found["trunk"] = batch_of_two(fast, image, device, size.repeats)
    return found


@torch.inference_mode()
def batch_of_two(fast: Any, image: torch.Tensor, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Seconds of the trunk for an image and its mirror image, one after another and as a batch, at each scale."""
    from hmsa_label.labelers.hmsa.scale_chain import scaled_size
    from hmsa_label.labelers.layers.blocks import resize

    rows = []
    for scale in SCALES:
        x = resize(fast.normalize(image[None]), scaled_size(image.shape[0], image.shape[1], scale))
        pair = torch.cat([x, x.flip(3)]).to(fast.dtype).contiguous(memory_format=torch.channels_last)
        trunk = getattr(fast.net.trunk, "branches", fast.net.trunk)
        apart = timed(lambda pair=pair, trunk=trunk: [trunk(part) for part in pair.split(1)], device, repeats)
        together = timed(lambda pair=pair, trunk=trunk: trunk(pair), device, repeats)
        rows.append({"scale": scale, "apart_s": apart["seconds"], "batch_s": together["seconds"]})
    return rows


@torch.inference_mode()
def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, Any]:
    """Median seconds of `work` after one run that is not counted, and on a GPU the peak of its memory in GB."""
    work()
    _finish(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return {"seconds": statistics.median(seconds), "peak_gb": peak}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def profiled(work: Callable[[], Any], device: torch.device, most: int = 25) -> dict[str, Any]:
    """Launches, and the kernels (on a CPU the operations) that take most of the time, in milliseconds."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=activities) as profile:
        work()
        _finish(device)
    events = profile.key_averages()
    on_device = [event for event in events if event.device_type.name == "CUDA"]
    kernels = on_device if device.type == "cuda" else events

    def microseconds(event: Any) -> float:
        return float(event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total)

    kernels = sorted(kernels, key=microseconds, reverse=True)
    launches = sum(event.count for event in events if "LaunchKernel" in event.key)
    rows = [{"name": e.key[:100], "calls": e.count, "ms": microseconds(e) / 1e3} for e in kernels[:most]]
    return {"launches": launches, "total_ms": sum(microseconds(e) for e in kernels) / 1e3, "rows": rows}


def labeling_run(device: torch.device, size: Size) -> dict[str, Any]:
    """Images a second of `run` with four threads, from PNG files to a store, against the bare teacher."""
    import numpy as np
    from PIL import Image
    from seeded_teacher import drawn_image, seeded_network

    from hmsa_label.labelers.taxonomy import CITYSCAPES
    from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
    from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig
    from hmsa_label.pipeline.label.run import label_images
    from hmsa_label.pipeline.teacher.teacher import Teacher

    with tempfile.TemporaryDirectory() as name:
        folder, image = Path(name), drawn_image(*size.image_px).numpy()
        info = {"model": size.network, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        (folder / "teacher.safetensors").write_bytes(encode_checkpoint(seeded_network(size.network), info))
        (folder / "images" / "all").mkdir(parents=True)
        for number in range(size.images):
            Image.fromarray(np.roll(image, 16 * number, 1)).save(folder / "images" / "all" / f"{number:03}.png")
        teacher = TeacherConfig(
            weights=str(folder / "teacher.safetensors"), options={"scales": SCALES}, device=device.type
        )
        bare = Teacher(teacher)
        grid = np.array([0.9], np.float32)
        forward = timed(partial(bare.label, [image], grid, 0.9, True), device, size.repeats)["seconds"]
        del bare
        summary = label_images(
            LabelConfig(
                data=DataConfig(root=str(folder / "images"), dataset="folder", split="all"),
                teacher=teacher,
                store=str(folder / "labels"),
                engine=EngineConfig(executor="local", workers=1, threads=4),
            )
        )
    if summary.images_labelled != size.images:
        raise SectionFailed(f"{summary.images_labelled} of {size.images} images were labeled", {})
    rate = summary.images_per_second or 0.0
    return {"forward_s": forward, "forward_per_s": 1 / forward, "run_per_s": rate, "share": rate * forward}


def batches(device: torch.device, size: Size) -> dict[str, Any]:
    """Images a second, peak and the share of equal labels by batch size, of a large network and of a small one."""
    import numpy as np
    from seeded_teacher import drawn_image, seeded_network

    from hmsa_label.labelers.taxonomy import CITYSCAPES
    from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
    from hmsa_label.pipeline.config import TeacherConfig
    from hmsa_label.pipeline.teacher.teacher import Teacher

    height, width = size.image_px
    cases = [(size.network, (height, width), (1, 2, 4)), (size.small_network, (height // 2, width // 2), (1, 4, 8, 16))]
    grid, rows = np.array([0.9], np.float32), []
    for network, image_px, batch_sizes in cases:
        drawn = drawn_image(*image_px).numpy()
        images = [np.roll(drawn, 16 * number, 1) for number in range(max(batch_sizes))]
        info = {"model": network, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            Path(file.name).write_bytes(encode_checkpoint(seeded_network(network), info))
            teachers = {
                precision: Teacher(TeacherConfig(weights=file.name, precision=precision, device=device.type))
                for precision in ("fp32", "bf16")
            }
        for precision, teacher in teachers.items():
            alone = [teacher.label([image], grid, Rule(0.9), True)[0].label for image in images]
            for count in batch_sizes:
                found = timed(partial(teacher.label, images[:count], grid, 0.9, True), device, size.repeats)
                together = teacher.label(images[:count], grid, Rule(0.9), True)
                same = [float((one.label == other).mean()) for one, other in zip(together, alone, strict=False)]
                row = {"network": network, "image_px": image_px, "precision": precision, "batch": count}
                row |= {"images_per_s": count / found["seconds"], "peak_gb": found["peak_gb"]}
                rows.append(row | {"same_labels": sum(same) / len(same)})
    return {"rows": rows}


@torch.inference_mode()
def axial(device: torch.device, size: Size) -> dict[str, Any]:
    """A block of axial attention against a bottleneck of the same channels, at stride 16: kernel and plain torch."""
    from axial_speed import axial_block, bottleneck, in_fast_form

    forms: dict[str, Any] = {"plain": None}
    if device.type == "cuda":
        from hmsa_label.labelers.inference.axial_kernel import attend_images

        forms["kernel"] = attend_images
    map_px, rows = [length // 16 for length in size.image_px], []
    torch.backends.cudnn.allow_tf32 = False
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    for width in (256, 512, 1024) if device.type == "cuda" else (32,):
        for dtype in dtypes:
            x = torch.randn(1, 2 * width, *map_px).to(device, dtype, memory_format=torch.channels_last)
            convolution = bottleneck(width, False).to(device, dtype)
            base = timed(lambda x=x, net=convolution: net(x), device, size.repeats)["seconds"]
            for span in (65, None):
                plain = None
                for name, kernel in forms.items():
                    block = in_fast_form(axial_block(width, span), kernel).to(device, dtype)
                    found = timed(lambda x=x, block=block: block(x), device, size.repeats)
                    row = {"width": width, "precision": str(dtype), "span": span, "attention": name, **found}
                    result = block(x).float()
                    plain = result if plain is None else plain
                    row |= {"of_bottleneck": found["seconds"] / base, "most_apart": float((result - plain).abs().max())}
                    rows.append(row)
    return {"map_px": map_px, "rows": rows}


def training(device: torch.device, size: Size) -> dict[str, Any]:
    """Images a second of training steps of the published recipe, without loading, by batch."""
    from seeded_teacher import seeded_network

    from hmsa_label.labelers.hmsa.training.objective import HmsaObjective
    from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
    from hmsa_label.pipeline.config import DataConfig
    from hmsa_label.pipeline.training.config import TrainConfig
    from hmsa_label.pipeline.training.optimizer import build_optimizer

    config = TrainConfig(data=DataConfig(root="."), output="unused")
    net = seeded_network(size.network).to(device, memory_format=torch.channels_last).train()
    objective, optimizer = HmsaObjective(net, HmsaLoss(), torch.bfloat16), build_optimizer(config, net)
    rows = []
    for batch in (1, 2):
        images = torch.randint(0, 256, (batch, *size.crop_px, 3), dtype=torch.uint8, device=device)
        labels = torch.randint(0, 19, (batch, *size.crop_px), device=device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds = []
        for _ in range(size.steps):
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            loss = objective(images, labels)
            loss.backward()
            optimizer.step()
            _finish(device)
            seconds.append(time.perf_counter() - started)
        if not torch.isfinite(loss):
            raise SectionFailed(f"the loss is {float(loss)} with a batch of {batch}", {"rows": rows})
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        rows.append({"batch": batch, "images_per_s": batch / statistics.median(seconds[1:]), "peak_gb": peak})
    return {"crop_px": size.crop_px, "rows": rows}


class SectionFailed(RuntimeError):
    """A section's figures are not what they must be; those that there are go into the report."""

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.figures = figures
