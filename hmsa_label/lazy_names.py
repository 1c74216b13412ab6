"""Names of a package that are imported when they are first used.

The one list of them is the package's stub, `__init__.pyi`, where each is a line `from MODULE import NAME as NAME`: type
checkers and editors read it by their own rules, and so does this module at run time.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path


def lazy_names(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its name. file: its `__init__.py`, beside which the stub lies.
    """
    places = _places(Path(file).with_suffix(".pyi"))

    def get(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    names = sorted(places)
    return get, lambda: names, names


def _places(stub: Path) -> dict[str, str]:
    """Name -> the module that holds it."""
    lines = (node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(line.module) for line in lines for alias in line.names}
