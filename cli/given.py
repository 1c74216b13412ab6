"""One option of a config field, and what the values mean that were given for several options of one config."""

import dataclasses
from typing import get_args

import click

from hmsa_label import pipeline
from hmsa_label.pipeline import DEFAULT_TEACHER


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a config field looks on the command line; a flag `--a/--no-a` comes in both forms, `A` is an argument.

    Attributes:
        kind: type of its value, where the field's annotation and `choices` do not tell.
        part: field of the config that holds a config of its own, and the class of that one, if the field is there.
    """

    field: str
    flag: str
    help: str
    choices: tuple[str, ...] | None = None
    foreign: tuple[str, ...] = ()
    kind: click.ParamType[object] | None = None
    part: tuple[str, type] | None = None


def parameter_of(setting: Setting) -> str:
    """The command's parameter that an option fills."""
    return name_of(setting.flag)


def name_of(flag: str) -> str:
    """The same of a flag: `--a-b/--no-a-b` is `a_b`, and `A` is `a`."""
    return flag.partition("/")[0].lstrip("-").replace("-", "_").lower()


def holds_config(annotation: object) -> bool:
    """Whether a field holds another config, or may: `TeacherConfig` or `TeacherConfig | None`."""
    return any(dataclasses.is_dataclass(part) for part in (annotation, *get_args(annotation)))


def refuse_given(chosen: list[Setting], instead: str) -> None:
    """Raises click.UsageError if an option was typed that another one takes the place of."""
    if (typed := given_of(chosen)) is not None:
        raise click.UsageError(f"{typed.flag.partition('/')[0]} is of no use with {instead}; give one of them")


def given_of(chosen: list[Setting]) -> Setting | None:
    """The first of some options that was typed; None if none was."""
    source, typed = click.get_current_context().get_parameter_source, click.core.ParameterSource.COMMANDLINE
    return next((setting for setting in chosen if source(parameter_of(setting)) is typed), None)


def the_one_asked_for(given: dict[Setting, object]) -> object:
    """Of several configs that one field may hold, that with a changed option; the first one if none is changed.

    Args:
        given: the options of all of them.

    Raises:
        click.UsageError: options of two were given.
    """
    made: dict[type, object] = {}
    changed: dict[type, str] = {}
    for kind in dict.fromkeys(setting.part[1] for setting in given if setting.part is not None):
        values = {setting: value for setting, value in given.items() if setting.part and setting.part[1] is kind}
        made[kind] = kind(**{setting.field: value for setting, value in values.items()})
        for setting in values:
            if getattr(made[kind], setting.field) != getattr(kind, setting.field):
                changed[kind] = setting.flag
    if len(changed) > 1:
        raise click.UsageError(f"{' and '.join(changed.values())} are options of different models; give those of one")
    return made[next(iter(changed or made))]


def teacher_options(fields: dict[str, object], own: dict[Setting, object]) -> dict[str, object]:
    """Options of the teacher that was asked for; what is not given is left to its own defaults.

    Args:
        fields: of its config. own: options of teachers of this package that are options of the command line.

    Raises:
        click.UsageError: options of one teacher were given for another.
    """
    teacher, named, ctx = str(fields["teacher"]), fields["options"], click.get_current_context()
    assert isinstance(named, dict)
    declared = pipeline.declared_options(teacher)
    known = () if declared is None else tuple(field.name for field in dataclasses.fields(declared))
    flags = {setting.field: setting.flag.partition("/")[0] for setting in own}
    given = {
        setting.field: value
        for setting, value in own.items()
        if ctx.get_parameter_source(parameter_of(setting)) is not click.core.ParameterSource.DEFAULT
    }
    if named and known and set(known) <= set(flags):
        listed = ", ".join(flags[name] for name in known)
        raise click.UsageError(f"--teacher-options are for a teacher of your own; those of {teacher} are {listed}")
    for name in given:
        if name not in known:
            of = f"an option of the teacher {DEFAULT_TEACHER}, and {teacher} was asked for"
            raise click.UsageError(f"{flags[name]} is {of}; give options of that one as --teacher-options name=value")
    return {**named, **given}
