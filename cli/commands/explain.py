"""`hmsa-label explain`: show what the teacher sees in one image, scale by scale."""

import hmsa_label
from hmsa_label import ExplainConfig, RuleConfig, TeacherConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import argument, command, settings


@command("explain", example="hmsa-label explain street.png --weights teacher.safetensors --output street-explained.png")
@argument("image", required=True)
@settings(TeacherConfig, "teacher")
@settings(RuleConfig, "rule")
@settings(ExplainConfig, "config")
def explain(image: str, config: ExplainConfig, as_json: bool) -> None:
    """Show what the teacher sees in an image, scale by scale.

    Writes one picture: the prediction of each scale and how much of it is taken, the fused prediction, its confidence,
    and the labels that the rule keeps. Polygons have no say in it.
    """
    result = hmsa_label.explain_image(image, config)
    for text in result.warnings:
        output.say(f"Warning: {text}")
    if as_json:
        output.show_json(result)
        return
    if rows := [(_name(part), share, result.agreement[part]) for part, share in result.shares.items()]:
        output.show_table(["scale", "share of the result", "agrees with it"], rows)
        output.show("")
    kept, rule = output.percent(result.kept_share), pipeline.rule_phrase(result.threshold, result.rule)
    output.show_facts({
        "mean confidence": f"{result.mean_confidence:.4f}",
        "kept": f"{kept} of pixels {rule}",
        "instances": None if result.instances is None else f"{result.instances}, {result.instances_kept} of them kept",
        "classes": result.teacher["classes"],
        "picture": result.output,
    })  # fmt: skip


def _name(part: str) -> str:
    """A scale as `0.5x`; a prediction that is no scale by its own name."""
    return f"{part}x" if part.replace(".", "", 1).isdigit() else part
