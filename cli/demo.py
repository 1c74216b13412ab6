"""`hmsa-label demo`: the whole flow on drawn streets, with no data, weights or GPU."""

from hmsa_label import pipeline
from hmsa_label.cli.options import command, flag


@command("demo", example="hmsa-label demo")
@flag("--output output_folder", "Folder to write to.", default="demo", show_default=True, section="Demo")
@flag("--seed", "Seed of everything random.", default=0, show_default=True, section="Demo")
def demo(output_folder: str, seed: int, as_json: bool) -> None:
    """Draw streets, train a small teacher on them, label the rest and check the store; takes a minute on a laptop."""
    pipeline.run_demo(output_folder, seed)
