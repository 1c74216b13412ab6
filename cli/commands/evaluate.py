"""`hmsa-label evaluate`: score a teacher against fine labels."""

import hmsa_label
from hmsa_label import DataConfig, EvaluateConfig, TeacherConfig
from hmsa_label.cli import output
from hmsa_label.cli.options import command, settings


@command("evaluate", example="hmsa-label evaluate --data /data/cityscapes --weights teacher.safetensors")
@settings(DataConfig, "data", split="val")
@settings(TeacherConfig, "teacher")
@settings(EvaluateConfig, "config")
def evaluate(config: EvaluateConfig, as_json: bool) -> None:
    """Score a teacher against fine labels.

    Gives IoU per class and their mean over the classes that occur, and pixel accuracy; and says so if images are scored
    that the teacher was trained on.
    """
    result = hmsa_label.evaluate(config)
    if as_json:
        output.show_json(result)
        return
    output.show_table(["class", "IoU"], result.iou.items())
    output.show("")
    output.show_facts({
        "mIoU": f"{result.miou:.4f}",
        "pixel accuracy": f"{result.pixel_accuracy:.4f}",
        "images": result.images,
        "trained on": _warning(result),
    })  # fmt: skip


def _warning(result: "hmsa_label.Evaluation") -> str | None:
    if not result.images_trained_on:
        return None
    return f"{result.images_trained_on} of these images; scores on them do not show what the teacher does with new ones"
