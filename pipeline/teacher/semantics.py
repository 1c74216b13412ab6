"""The classes of one teacher with the instances of another: how the first is loaded, and what is recorded of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hmsa_label.labelers.base import LabelerBase
from hmsa_label.labelers.taxonomy import ClassTable, class_difference
from hmsa_label.pipeline.config import TeacherConfig

if TYPE_CHECKING:
    from hmsa_label.pipeline.teacher.teacher import Teacher

# Not recorded of it: both have them in common, or they tell what it could be asked for.
COMMON = ("precision", "device", "settings", "warnings", "gives", "views")


def load_semantics(config: TeacherConfig, kind: type, load: Callable[[TeacherConfig], "Teacher"]) -> "Teacher | None":
    """The teacher that tells the classes; None if that of `config`, a labeler of this kind, does so itself.

    Raises:
        FileNotFoundError: there is no such weights file.
        ValueError: it cannot be loaded, or the two do not go together.
    """
    if (semantics := config.semantics) is None:
        return None
    if not getattr(kind, "takes_semantics", LabelerBase.takes_semantics):
        raise ValueError(f"the teacher {config.teacher} takes no classes of another one; leave --semantic-from away")
    try:
        other = load(semantics)
    except (ValueError, FileNotFoundError) as error:
        # what names the teacher of the first weights means the second one here
        text = str(error).replace("--teacher ", "--semantic-teacher ").replace("--weights", "--semantic-from")
        raise type(error)(f"--semantic-from: {text}") from error
    if not other.gives_probabilities:
        raise ValueError(
            f"--semantic-from: the teacher {semantics.teacher} gives {other.info['gives']}, and {config.teacher} needs "
            "the probabilities of all classes; name another one"
        )
    return other


def check_classes(classes: ClassTable, other: "Teacher | None") -> None:
    """Holds that both teachers know the same classes.

    Raises:
        ValueError: naming both tables.
    """
    if other is None:
        return
    if difference := class_difference(classes, other.classes, "that of --semantic-from"):
        raise ValueError(f"{difference}; both must know the same classes in one order")


def facts_of(other: "Teacher") -> dict[str, Any]:
    """What is recorded of it: name, weights and their digest, what it was trained on, how it looks at images."""
    own = {name: value for name, value in other.info.items() if name not in COMMON}
    return {"name": other.config.teacher, **own}
