"""Where an option's value comes from: command line, then environment, then the YAML file, then the default.

An option `--batch-size` of `run` is HMSA_LABEL_RUN_BATCH_SIZE in the environment, or HMSA_LABEL_BATCH_SIZE for every
command that has it. In the file it is the key `batch-size`, at the top for every command that has it or under `run:`
for that command alone.
"""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import click

PREFIX = "HMSA_LABEL"
MAX_VALUES, MAX_DEPTH = 10_000, 20  # of a settings file, its aliases counted as often as they occur
PRESETS = Path(__file__).parent / "presets"


class OptionAttributes(TypedDict, total=False):
    """What an option may say of itself beside its section; click's own names."""

    type: click.ParamType[object] | type | None
    default: object
    show_default: bool
    required: bool
    is_flag: bool
    is_eager: bool
    expose_value: bool
    metavar: str
    callback: Callable[..., object]


class SettingOption(click.Option):
    """An option that the environment and the settings file can set too.

    Attributes:
        section: heading that the option stands under in the help.
        foreign_envvars: variables of other tools that also set it, such as CITYSCAPES_DATASET.
        admits_none: whether `null` in the file means None; elsewhere it means "not given".
    """

    def __init__(
        self,
        param_decls: Sequence[str],
        *,
        help: str,
        section: str = "",
        foreign: tuple[str, ...] = (),
        admits_none: bool = False,
        **attributes: Unpack[OptionAttributes],
    ) -> None:
        super().__init__(param_decls, help=help, **attributes)
        self.section = section
        self.foreign_envvars = foreign
        self.admits_none = admits_none

    @property
    def setting(self) -> str:
        """The key in the settings file: the option without its dashes."""
        return max(self.opts, key=len).lstrip("-")

    def envvars(self, command_prefix: str | None) -> list[str]:
        """The variables that set this option, the most specific first."""
        name = self.setting.replace("-", "_").upper()
        own = [f"{prefix}_{name}" for prefix in (command_prefix, PREFIX) if prefix]
        return [*dict.fromkeys(own), *self.foreign_envvars]

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        values = (os.environ.get(name) for name in self.envvars(ctx.auto_envvar_prefix))
        return next((value for value in values if value), None)

    def process_value(self, ctx: click.Context, value: object) -> object:
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            names = " or ".join(self.envvars(None))
            hint = f"Give it, or set {names}, or {self.setting!r} in the --config file."
            raise click.MissingParameter(hint, ctx, self) from None
        except TypeError:  # click's numbers take whatever YAML has for a number, and lists as well
            text = f"{value!r:.60} is not a valid {self.type.name}"
            raise click.BadParameter(f"{text}{self._origin(ctx)}.", ctx, self) from None
        except click.BadParameter as error:
            raise click.BadParameter(error.message.rstrip(".") + self._origin(ctx) + ".", ctx, self) from None

    def _origin(self, ctx: click.Context) -> str:
        source = ctx.get_parameter_source(self.name or "")
        if source is click.core.ParameterSource.ENVIRONMENT:
            name = next(name for name in self.envvars(ctx.auto_envvar_prefix) if os.environ.get(name))
            return f" (from the environment variable {name})"
        if source is click.core.ParameterSource.DEFAULT_MAP:
            return f" (from {ctx.meta.get('settings_file', 'the --config file')})"
        return ""


def settings_of(command: click.Command) -> dict[str, SettingOption]:
    """The options of a command by their key; of a group, those of all its commands together."""
    if isinstance(command, click.Group):
        parts = [settings_of(child) for child in _children(command).values()]
        return {name: option for part in parts for name, option in part.items()}
    return {option.setting: option for option in command.params if isinstance(option, SettingOption)}


def use_settings_file(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Callback of `--config`: makes the file's values the defaults of the command being called.

    Raises:
        ValueError: the file is no YAML mapping, or holds a key that no command knows.
    """
    if path:
        document = _read(path)
        root = ctx.find_root().command
        _check(document, root, path, "")
        ctx.meta["settings_file"] = path
        ctx.default_map = {**(ctx.default_map or {}), **_defaults(document, ctx)}
    return path


def use_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Callback of `--preset`: settings that come with the package, below those of `--config`."""
    if name:
        path = str(PRESETS / f"{name}.yaml")
        ctx.meta.setdefault("settings_file", path)
        ctx.default_map = {**_defaults(_read(path), ctx), **(ctx.default_map or {})}
    return name


def unknown_variables(root: click.Command) -> list[str]:
    """HMSA_LABEL_* variables of the environment that set nothing, each with the nearest name that would."""
    known = {name for command, prefix in _walk(root, PREFIX) for name in _names(command, prefix)}
    strangers = sorted(name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in known)
    return [f"{name} sets nothing{nearest(name, known)}" for name in strangers]


def _walk(command: click.Command, prefix: str) -> list[tuple[click.Command, str]]:
    if not isinstance(command, click.Group):
        return [(command, prefix)]
    children = _children(command).items()
    return [pair for name, child in children for pair in _walk(child, f"{prefix}_{name.replace('-', '_').upper()}")]


def _names(command: click.Command, prefix: str) -> set[str]:
    return {name for option in settings_of(command).values() for name in option.envvars(prefix)}


def _children(group: click.Group) -> dict[str, click.Command]:
    ctx = click.Context(group)
    found = {name: group.get_command(ctx, name) for name in group.list_commands(ctx)}
    return {name: child for name, child in found.items() if child is not None}


def _read(path: str) -> dict[object, object]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
        _refuse_odd(document)
    except RecursionError:
        raise ValueError(f"{path} is not a file of settings: it is nested too deeply or too large") from None
    except OSError as error:
        raise ValueError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not a YAML file of settings: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold keys and values, such as 'threshold: 0.9'; it holds {document!r:.60}")
    return document


def _refuse_odd(document: object) -> None:
    """Holds that a file has values that options know, and no more of them than anybody sets.

    Raises:
        ValueError: for a date, binary data or a number beyond 64 bits.
        RecursionError: if its aliases stand for very many values, or for themselves.
    """
    level, values = [document], 0
    for _ in range(MAX_DEPTH):
        values += len(level)
        if values > MAX_VALUES:
            break
        for value in level:
            if not isinstance(value, dict | list | str | int | float | None):
                raise ValueError(f"{value!r:.60} is neither text nor a number; put it in quotes")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError("a whole number beyond 64 bits")
        entries = (entry for value in level if isinstance(value, dict) for entry in (*value, *value.values()))
        level = [*entries, *(entry for value in level if isinstance(value, list) for entry in value)]
        if not level:
            return
    raise RecursionError


def _check(section: Mapping[object, object], command: click.Command, path: str, where: str) -> None:
    children = _children(command) if isinstance(command, click.Group) else {}
    options = settings_of(command)
    for raw, value in section.items():
        key = _key(raw)
        if key in children:
            if not isinstance(value, dict | None):
                raise ValueError(f"{path}: {where + key!r} is a command and takes a section of keys; got {value!r:.60}")
            _check(value or {}, children[key], path, f"{where}{key}.")
        elif key not in options:
            inside = f" in section {where[:-1]!r}" if where else ""
            raise ValueError(f"{path}: unknown key {str(raw)!r}{inside}{nearest(key, {*children, *options})}")
        elif isinstance(value, dict) and options[key].type.name not in ("section", "named numbers", "named values"):
            raise ValueError(f"{path}: {where + key!r} takes a value, not a section; got {value!r:.60}")


def _defaults(document: Mapping[object, object], ctx: click.Context) -> dict[str, object]:
    """Values for the called command: keys at the top first, then those of each section on the way down to it."""
    options = settings_of(ctx.command)
    merged: dict[str, object] = {}
    section: object = document
    for name in [*_route(ctx), None]:
        entries = {_key(raw): value for raw, value in section.items()} if isinstance(section, Mapping) else {}
        merged |= {key: value for key, value in entries.items() if key in options}
        section = entries.get(name) if name else None
    given = {key: value for key, value in merged.items() if value is not None or options[key].admits_none}
    return {str(options[key].name): value for key, value in given.items()}


def _route(ctx: click.Context) -> list[str]:
    if ctx.parent is None:
        return []
    return [*_route(ctx.parent), str(ctx.info_name)]


def _key(raw: object) -> str:
    return str(raw).replace("_", "-")


def nearest(name: str, known: set[str]) -> str:
    """The end of a message about an unknown name: the most similar known one, or all of them."""
    match = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else f"; known: {', '.join(sorted(known))}"
