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
    that the teacher was trained on. Of a teacher that tells instances apart it also gives panoptic quality (PQ, SQ, RQ)
    and average precision (AP), on labels with instances.
    """
    result = hmsa_label.evaluate(config)
    if as_json:
        output.show_json(result)
        return
    panoptic = result if isinstance(result, hmsa_label.PanopticEvaluation) else None
    if panoptic is None:
        output.show_table(["class", "IoU"], result.iou.items())
    else:
        rows = [(name, one.pq, one.sq, one.rq, one.ap, one.iou) for name, one in panoptic.classes.items()]
        output.show_table(["class", "PQ", "SQ", "RQ", "AP", "IoU"], rows)
    output.show("")
    output.show_facts({
        **({} if panoptic is None else _panoptic_facts(panoptic)),
        "mIoU": f"{result.miou:.4f}",
        "pixel accuracy": f"{result.pixel_accuracy:.4f}",
        "images": result.images,
        "trained on": _warning(result),
    })  # fmt: skip


def _panoptic_facts(result: "hmsa_label.PanopticEvaluation") -> dict[str, object]:
    parts = [
        f"{kind} {scores[name]:.4f}" if scores else f"no {kind}"
        for name in ("pq", "sq", "rq")
        for kind, scores in (("things", result.things), ("stuff", result.stuff))
    ]
    of = [", ".join(parts[index : index + 2]) for index in (0, 2, 4)]
    return {
        "PQ": f"{result.pq:.4f}  ({of[0]})",
        "SQ": f"{result.sq:.4f}  ({of[1]})",
        "RQ": f"{result.rq:.4f}  ({of[2]})",
        "AP": f"{result.ap:.4f}  (at IoU 0.5: {result.ap50:.4f})",
    }


def _warning(result: "hmsa_label.Evaluation") -> str | None:
    if not result.images_trained_on:
        return None
    return f"{result.images_trained_on} of these images; scores on them do not show what the teacher does with new ones"
