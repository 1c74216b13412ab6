"""The layers and the homes of libraries, held by reading every import of the package.

The four layers are read where they lie, at the top of the repository; the links inside `hmsa_label/` point at the same
files and are not followed.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

import hmsa_label
from hmsa_label import labelers, pipeline

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("cli", "pipeline", "labelers", "stores")

# What each layer may import of ours. What the command line sees of the others is narrower: the test below it.
ALLOWED = {
    "cli": {"hmsa_label"},
    "pipeline": {"hmsa_label.pipeline", "hmsa_label.labelers", "hmsa_label.stores"},
    "labelers": {"hmsa_label.labelers"},
    "stores": {"hmsa_label.stores"},
}

BESIDE_THE_LAYERS = ("hmsa_label", "hmsa_label.__version__", "hmsa_label.lazy_names.lazy_names")

# Where each library may be imported at all: a folder, or single files.
HOMES = {
    "click": ("cli/",),
    "yaml": ("cli/settings.py",),
    "ray": ("pipeline/engine/ray_", "pipeline/training/ray_train.py"),
    "tqdm": ("pipeline/monitor/progress.py", "pipeline/training/progress.py"),
    "matplotlib": ("pipeline/training/log.py",),
    "torch": (
        "labelers/",
        "pipeline/compare/students.py",
        "pipeline/label/plan.py",
        "pipeline/teacher/devices.py",
        "pipeline/teacher/evidence_maps.py",
        "pipeline/teacher/forms.py",
        "pipeline/teacher/instances.py",
        "pipeline/teacher/panoptic_form.py",
        "pipeline/teacher/teacher.py",
        "pipeline/teacher/threshold.py",
        "pipeline/training/augment.py",
        "pipeline/training/crops.py",
        "pipeline/training/distributed.py",
        "pipeline/training/estimate.py",
        "pipeline/training/image_sets.py",
        "pipeline/training/log.py",
        "pipeline/training/loop.py",
        "pipeline/training/model.py",
        "pipeline/training/optimizer.py",
        "pipeline/training/sets.py",
        "pipeline/training/state.py",
        "pipeline/training/step_total.py",
        "pipeline/training/trainer.py",
    ),
    "triton": ("labelers/inference/axial_kernel.py",),
    "safetensors": ("labelers/weights/checkpoints.py",),
    "PIL": ("pipeline/data/decode.py", "pipeline/demo/scenes/tree.py"),
    "cv2": ("pipeline/",),
    "fsspec": ("stores/",),
    "s3fs": ("stores/",),
    "zarr": ("stores/exports/dense_zarr.py",),
    "numcodecs": ("stores/",),
    "pyarrow": ("stores/",),
    "deltalake": ("stores/",),
}

# Files longer than this need a reason, and a line here.
MAX_LINES, LONGER_FOR_A_REASON = 400, frozenset[str]()


def sources(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(full dotted name, line) of every import in a file, those inside functions included.

    `from a.b import c` gives `a.b.c`, which names the module in either case: c may be a module or something in a.b.
    """
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write hmsa_label. in full"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def imports_at_top(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(), str(path)).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_what_lies_below_it(layer):
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(layer)
        for name, line in imports(path)
        if is_under(name, "hmsa_label")
        and name not in BESIDE_THE_LAYERS
        and not any(is_under(name, package) for package in ALLOWED[layer])
    ]
    assert offences == []


def test_command_line_sees_only_the_library_and_what_the_pipeline_exports():
    exported = {"hmsa_label", *(f"hmsa_label.{name}" for name in hmsa_label.__all__)}
    exported |= {"hmsa_label.pipeline", *(f"hmsa_label.pipeline.{name}" for name in pipeline.__all__)}
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("cli")
        for name, line in imports(path)
        if is_under(name, "hmsa_label") and not is_under(name, "hmsa_label.cli") and name not in exported
    ]
    assert offences == []


def test_command_line_knows_the_types_of_what_it_shows():
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("cli")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.Attribute) and node.attr == "Any")
    ]
    assert offences == []


def test_pipeline_names_nothing_that_only_one_labeler_or_model_has():
    own = re.compile(
        r"\b(?:low_scale|multi_scale|scales|fusions?|attention|axial\w*|heat.?maps?|center_kernel|stuff_area)\b(?!-DeepLab)",
        re.IGNORECASE,
    )
    offences = [
        f"{path.relative_to(ROOT)}:{number} names {found.group()}"
        for path in sources("pipeline")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := own.search(line))
    ]
    assert offences == []


def room_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix().replace("/", ".")


def arrows_between_rooms() -> dict[str, set[str]]:
    """Room -> the rooms that its files import from. The `__init__.py` of a layer only tells where its names are."""
    places = {
        f"hmsa_label.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}".removesuffix(
            ".__init__"
        ): path
        for layer in LAYERS
        for path in sources(layer)
    }
    arrows: dict[str, set[str]] = {}
    for path in places.values():
        if path.parent.parent != ROOT or path.name != "__init__.py":
            for name, _ in imports(path):
                module = places.get(name) or places.get(name.rpartition(".")[0])
                if module is not None and module.parent != path.parent:
                    arrows.setdefault(room_of(path), set()).add(room_of(module))
    return arrows


def test_rooms_import_in_no_circle():
    arrows = arrows_between_rooms()
    while free := {room for room in {*arrows, *chain(*arrows.values())} if not arrows.get(room)}:
        arrows = {room: below - free for room, below in arrows.items() if room not in free}
    assert arrows == {}


def test_every_library_is_imported_only_in_its_home():
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for layer in LAYERS
        for path in sources(layer)
        for name, line in imports(path)
        for library, homes in HOMES.items()
        if is_under(name, library) and not path.relative_to(ROOT).as_posix().startswith(homes)
    ]
    assert offences == []


def test_zarr_is_loaded_only_where_it_is_called():
    # It takes longer than reading an image, in every worker and loader process.
    assert "zarr" not in imports_at_top(ROOT / HOMES["zarr"][0])


@cache
def names_in(module: Path) -> set[str]:
    """What can be imported from a module: all that stands at its top level."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def exists(name: str) -> bool:
    """Whether a dotted name of ours is a module, or something in one."""
    place = ROOT.joinpath(*name.split(".")[1:])
    if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
        return True
    above = place.parent
    modules = (above.with_suffix(".py"), above / "__init__.py", above / "__init__.pyi")
    return any(place.name in names_in(module) for module in modules if module.is_file())


def test_benchmarks_import_only_what_there_is():
    # Nobody runs all of them after a file was renamed, and no type checker reads them.
    lost = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "benchmarks").rglob("*.py"))
        for name, line in imports(path)
        if name.startswith(tuple(f"hmsa_label.{layer}." for layer in LAYERS)) and not exists(name)
    ]
    assert lost == []


def test_command_line_imports_no_library_but_click_at_module_level():
    top = {name for path in sources("cli") for name in imports_at_top(path)}
    assert {name for name in top if name.partition(".")[0] in {*HOMES, "numpy"} - {"click"}} == set()


def test_package_holds_links_to_the_layers_and_nothing_that_is_read_twice():
    package = ROOT / "hmsa_label"
    assert {entry.name for entry in package.iterdir() if entry.is_symlink()} == set(LAYERS)
    assert {entry.name for entry in package.glob("*.py")} == {"__init__.py", "lazy_names.py"}
    for layer in LAYERS:
        assert (package / layer).readlink().as_posix() == f"../{layer}"


def test_pipeline_knows_nothing_of_how_one_teacher_looks_at_images():
    """But for the demo, which chooses for the teacher that it trains."""
    words = re.compile(r"\b(scales|attention|fusions?|low_scale|multi_scale|trained_scales)\b", re.IGNORECASE)
    offences = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*sources("pipeline"), *(ROOT / "pipeline").rglob("*.pyi")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if path.parent.name != "demo" and words.search(line)
    ]
    assert offences == []


def test_public_names_of_the_packages_can_all_be_imported():
    for module in (hmsa_label, pipeline, labelers):
        assert len(module.__all__) == len(set(module.__all__))
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_files_stay_within_one_sitting():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for layer in LAYERS
        for path in sources(layer)
    }
    assert {name for name, length in lengths.items() if length > MAX_LINES} == LONGER_FOR_A_REASON
    assert not [name for name in lengths if name.endswith("utils.py")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch.nn as nn", ["torch.nn"]),
        ("def f():\n    from ray import get", ["ray.get"]),
        ("from hmsa_label import pipeline", ["hmsa_label.pipeline"]),
        ("if True:\n    import zarr, click", ["zarr", "click"]),
    ],
)
def test_imports_are_found_wherever_they_stand(tmp_path, text, expected):
    (tmp_path / "x.py").write_text(text)
    assert [name for name, _ in imports(tmp_path / "x.py")] == expected
