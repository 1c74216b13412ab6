"""The public library: whole, found by `dir` and by type checkers, and light to import."""

import builtins
import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import hmsa_label

PUBLIC = {name: getattr(hmsa_label, name) for name in hmsa_label.__all__ if name != "__version__"}
# What readers and writers inside the package make a store of; people call LabelStore.open.
NOT_CALLED = {"LabelStore.__init__"}


def signatures() -> Iterator[tuple[str, object]]:
    """(name, function or class) of everything public that has annotations."""
    for name, thing in PUBLIC.items():
        if inspect.isroutine(thing):
            yield name, thing
        elif inspect.isclass(thing):
            yield name, thing
            for part, member in vars(thing).items():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                shown = not part.startswith("_") or part == "__init__"
                if shown and inspect.isfunction(function) and f"{name}.{part}" not in NOT_CALLED:
                    yield f"{name}.{part}", function


def hints(thing: object) -> list[object]:
    try:
        return list(typing.get_type_hints(thing).values())
    except NameError:  # a name of torch, which only type checkers import there
        return []


def classes_in(hint: object) -> Iterator[type]:
    if inspect.isclass(hint):
        yield hint
    for part in (*typing.get_args(hint), *(getattr(hint, "__args__", None) or ())):
        yield from (found for entry in (part if isinstance(part, list) else [part]) for found in classes_in(entry))


def test_all_that_public_functions_take_and_return_is_public():
    missing = {
        f"{name}: {found.__module__}.{found.__qualname__}"
        for name, thing in signatures()
        for hint in hints(thing)
        for found in classes_in(hint)
        if found.__module__.startswith("hmsa_label") and found not in PUBLIC.values()
    }
    assert missing == set()


def test_all_errors_that_public_functions_name_are_public():
    missing = set()
    for name, thing in signatures():
        _, _, raises = (inspect.getdoc(thing) or "").partition("Raises:\n")
        for text in re.findall(r"(?:^|[.;] |, )([A-Z]\w+(?:Error|[a-z]))(?=[,:])", textwrap.dedent(raises), re.M):
            if not (hasattr(builtins, text) or text in PUBLIC):
                missing.add(f"{name}: {text}")
    assert missing == set()


def test_dir_shows_the_library_and_nothing_else():
    assert dir(hmsa_label) == sorted(hmsa_label.__all__)
    assert {"LabelStore", "StoreError", "BadImage", "evaluate", "compare", "rethreshold", "trace"} <= set(
        dir(hmsa_label)
    )


def test_the_stub_is_all_that_names_the_library():
    stub = Path(str(hmsa_label.__file__)).with_suffix(".pyi").read_text()
    names = re.findall(r"^from \S+ import (\w+) as (\w+)$", stub, re.M)
    assert sorted(name for name, _ in names) == sorted(PUBLIC)
    assert all(name == alias for name, alias in names)


def test_importing_the_library_and_asking_what_is_in_it_loads_nothing_heavy():
    code = "import sys, hmsa_label; dir(hmsa_label); hmsa_label.DataConfig; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "ray", "numpy", "pyarrow", "fsspec", "cv2"} & set(loaded) == set()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hmsa_label' has no attribute 'Labelstore'"):
        _ = hmsa_label.Labelstore


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (hmsa_label.DataConfig, "root"),
        (hmsa_label.StoreConfig, "uri"),
        (hmsa_label.AutoLabels, "store"),
        (hmsa_label.AutoLabels, "data"),
        (hmsa_label.ModelConfig, "init_weights"),
        (hmsa_label.TraceConfig, "teacher"),
        (hmsa_label.TraceConfig, "store"),
    ],
)
def test_settings_take_a_path_and_are_those_of_its_text(config, field):
    required = {"store": "labels"} if config is hmsa_label.AutoLabels else {}
    assert config(**required | {field: Path("a/b")}) == config(**required | {field: "a/b"})
    with pytest.raises(ValueError, match="s3:/bucket/a was a URL before it became a Path"):
        config(**required | {field: Path("s3://bucket/a")})


def test_settings_of_a_whole_run_and_a_training_take_paths():
    data = hmsa_label.DataConfig(root=Path("images"))
    teacher = hmsa_label.TeacherConfig(weights=Path("best.safetensors"))
    assert hmsa_label.LabelConfig(data=data, teacher=teacher, store=Path("labels")).store == "labels"
    assert hmsa_label.TrainConfig(data=data, output=Path("student")).output == "student"
    assert hmsa_label.ExplainConfig(teacher=teacher, output=Path("a.png")).output == "a.png"
    assert teacher.weights == "best.safetensors"


PLACES = {"auto_data", "checkpoint", "data", "destination", "image", "init_weights", "output", "root", "sources"}
PLACES |= {"store", "uri", "weights"}


def test_whatever_is_a_place_may_be_given_as_a_path():
    offences = set()
    for name, thing in signatures():
        owner = PUBLIC[name.partition(".")[0]]
        if dataclasses.is_dataclass(owner) and not owner.__module__.endswith(".config"):
            continue
        try:
            found = typing.get_type_hints(thing)
        except NameError:
            continue
        for part in PLACES & set(found):
            kinds = set(classes_in(found[part]))
            if str in kinds and Path not in kinds:
                offences.add(f"{name.removesuffix('.__init__')}.{part}")
    assert offences == set()


def test_results_of_verbs_turn_into_json_by_themselves():
    named = ("Summary", "Plan", "Evaluation", "Comparison", "Trace", "Diff", "Card", "Verified", "Version", "RunStatus")
    results = [thing for name, thing in PUBLIC.items() if name.endswith(named)]
    assert len(results) >= 12
    assert [thing for thing in results if not hasattr(thing, "to_dict")] == []
