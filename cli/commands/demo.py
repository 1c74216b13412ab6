"""`hmsa-label demo`: the whole flow on drawn streets, with no data, weights or GPU."""

import hmsa_label
from hmsa_label import pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import command, flag


@command("demo", example="hmsa-label demo --output demo")
@flag("--output output_folder", "Folder to write to.", default="demo", show_default=True, section="Demo")
@flag("--seed", "Seed of everything random.", default=0, show_default=True, section="Demo")
def demo(output_folder: str, seed: int, as_json: bool) -> None:
    """Try the whole flow on drawn streets.

    Draws streets, trains a small teacher on some, labels the rest and checks the store. Needs no data, weights or
    GPU, and takes about three minutes on two cores. Called again it goes on where it stopped.
    """
    summary = hmsa_label.run_demo(output_folder, seed, output.say)
    if as_json:
        output.show_json(summary)
        return
    output.show_facts({
        "report": summary.report,
        "teacher": f"{summary.checkpoint}, mIoU {summary.teacher_miou:.3f} on scenes it has not seen",
        "labels": f"{summary.store}, version {summary.version}, {pipeline.counted(summary.images_labelled, 'image')}",
        "kept": f"{output.percent(summary.kept_share)} of pixels",
        "problems": summary.problems or "none",
        "time": f"{sum(summary.seconds.values()):.0f} s",
    })  # fmt: skip
