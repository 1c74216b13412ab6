"""A teacher of the user's own: where its code is, which it is, and how it reaches workers on other hosts.

Code that belongs to an installed distribution must be installed on every host. Any other is a file or a package beside
the user: it is read here and unpacked by the workers, together with what it imports from the same folder.
"""

import ast
import atexit
import hashlib
import importlib.util
import os
import shutil
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from hmsa_label.labelers.base import LabelerFault
from hmsa_label.labelers.registry import find, is_built_in, place_of
from hmsa_label.pipeline.config import TeacherConfig

MAX_BYTES = 16 * 2**20
OURS = "hmsa_label"
# Python 3.11 counts the depth of a syntax tree for all threads together: two that parse at once may both fail.
_PARSING = threading.Lock()


@dataclass(frozen=True)
class UserCode:
    """Files of a teacher that is not installed; small and picklable.

    Attributes:
        files: bytes of each file, by its path below the folder that is to be importable.
    """

    files: dict[str, bytes] = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the only file; of several, that of the lines which `sha256sum` prints of them in the order of names."""
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.files.items())}
        if len(digests) == 1:
            return next(iter(digests.values()))
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()

    def install(self) -> None:
        """Makes the files importable in this process, before anything of the same name elsewhere."""
        folder = Path(tempfile.mkdtemp(prefix="hmsa-label-teacher-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def find_teacher(name: str) -> type:
    """The class of a teacher; a module of the user's is looked for in the current folder too.

    Raises:
        ValueError: as `registry.find`.
    """
    if not is_built_in(name):
        look_here_for(place_of(name))
    return find(name)


def look_here_for(place: str) -> None:
    """Makes the current folder importable if the module of `module:attribute` is there and nowhere else."""
    top, here = place.partition(":")[0].partition(".")[0], Path.cwd()
    is_here = (here / f"{top}.py").is_file() or (here / top).is_dir()
    if is_here and str(here) not in sys.path and _is_missing(top):
        sys.path.append(str(here))
        importlib.invalidate_caches()


def code_identity(name: str) -> dict[str, Any]:
    """Which code a teacher is: empty for one of this package, whose version records name anyway.

    Raises:
        ValueError: as `find_teacher`; or its source cannot be read.
    """
    if is_built_in(name):
        return {}
    identity = {"class": place_of(name)}
    code = user_code(name)
    if code is not None:
        return {**identity, "source_sha256": code.sha256}
    distributions = packages_distributions().get(_top_module(name), [])
    return (
        {**identity, "distribution": distributions[0], "version": version(distributions[0])}
        if distributions
        else (identity)
    )


def code_of(config: TeacherConfig) -> UserCode | None:
    """The files that other hosts lack of a teacher, and of the one that tells its classes; None if there are none.

    Raises:
        ValueError: as `user_code`.
    """
    names = [config.teacher] + ([config.semantic_teacher] if config.semantic_from is not None else [])
    found = [code for code in map(user_code, names) if code is not None]
    return UserCode({name: data for code in found for name, data in code.files.items()}) if found else None


def user_code(name: str) -> UserCode | None:
    """The files of a teacher that other hosts lack; None if it is part of an installed distribution.

    Raises:
        ValueError: as `find_teacher`; or there is no source to read, or too much.
    """
    if is_built_in(name):
        return None
    module = find_teacher(name).__module__
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        raise LabelerFault(f"the teacher {name} has no source file; put its class into a module, or install it")
    if _is_installed(Path(file)):
        return None
    modules = dict.fromkeys([place_of(name).partition(":")[0], module])
    return UserCode(_collect(list(modules), name))


def _top_module(name: str) -> str:
    return place_of(name).partition(":")[0].partition(".")[0]


def _is_missing(top: str) -> bool:
    return top not in sys.modules and importlib.util.find_spec(top) is None


def _is_installed(file: Path) -> bool:
    folders = [sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return any(file.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)


def _collect(modules: list[str], name: str) -> dict[str, bytes]:
    """Files of the modules, and of those beside them that they import."""
    files: dict[str, bytes] = {}
    left, seen, root = list(modules), set(modules), _folder_of(modules[0])
    while left:
        for path in _files_of(left.pop(), root):
            files[path.relative_to(root).as_posix()] = data = path.read_bytes()
            if sum(map(len, files.values())) > MAX_BYTES:
                raise LabelerFault(
                    f"the package of the teacher {name} has more than {MAX_BYTES >> 20} MiB at {root}; install it on "
                    "every host, or keep weights and data out of it"
                )
            if path.suffix == ".py":
                beside = {found for found in _imports(data, path) if _path_of(found, root) is not None}
                left += sorted(beside - seen)
                seen |= beside
    return files


def _folder_of(module: str) -> Path:
    """The folder on `sys.path` below which a module lies."""
    file = Path(sys.modules[module].__file__ or "").resolve()
    levels = module.count(".") + (1 if file.name == "__init__.py" else 0)
    return file.parents[levels]


def _files_of(module: str, root: Path) -> Iterator[Path]:
    """The file of a module; all files of the outermost package that it belongs to, if it does."""
    top = root / module.partition(".")[0]
    if (top / "__init__.py").is_file():
        for path in sorted(top.rglob("*")):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
            if path.is_file() and not hidden:
                yield path
    elif (file := _path_of(module, root)) is not None:
        yield file


def _path_of(module: str, root: Path) -> Path | None:
    """The file of a module below a folder; None if it is not there."""
    if module.partition(".")[0] == OURS:
        return None
    stem = root.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imports(source: bytes, path: Path) -> Iterator[str]:
    """Modules that a file may import by their full names; those of its own package are packed with it anyway."""
    with _PARSING:
        tree = ast.parse(source, os.fspath(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
