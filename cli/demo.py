"""`hmsa-label demo`: the whole flow on drawn streets, with no data, weights or GPU."""

from hmsa_label import pipeline
from hmsa_label.cli.options import command, flag


@command("demo", example="hmsa-label demo")
@flag("--output output_folder", "Folder to write to.", default="demo", show_default=True, section="Demo")
@flag("--seed", "Seed of everything random.", default=0, show_default=True, section="Demo")
def demo(output_folder: str, seed: int, as_json: bool) -> None:
    """Try the whole flow on drawn streets.

    Draws streets, trains a small teacher on some, labels the rest and checks the store. Needs no data, weights or
    GPU.
    """
    pipeline.run_demo(output_folder, seed)
