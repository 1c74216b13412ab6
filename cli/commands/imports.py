"""`hmsa-label import`: labels that were made elsewhere, as a store."""

import click

import hmsa_label
from hmsa_label import DataConfig, EngineConfig, GuardConfig, ImportConfig, LabelConfig, RuleConfig, pipeline
from hmsa_label.cli.commands.label import show_plan, show_summary
from hmsa_label.cli.errors import INTERRUPTED
from hmsa_label.cli.options import command, flag, settings

OF_TEACHERS = ("gpus_per_worker", "cpus_per_worker", "batch_size", "start_timeout")


@command(
    "import",
    example="hmsa-label import refinement_final --format nvidia --data /data/cityscapes \\\n"
    "    --store labels --threshold 0.5",
)
@settings(DataConfig, "data")
@settings(ImportConfig, "teacher", skip=("sha256",))
@settings(EngineConfig, "engine", skip=OF_TEACHERS, executor="local")
@settings(RuleConfig, "rule")
@settings(GuardConfig, "guard")
@settings(LabelConfig, "config")
@flag("-n --dry-run", "Show what would be done, and do nothing.", is_flag=True, section="General")
@click.pass_context
def import_(ctx: click.Context, config: LabelConfig, dry_run: bool, as_json: bool) -> None:
    """Import labels that were made elsewhere into a store.

    LABELS is a folder or URL of class maps, with or without a map of confidences, or of masks with scores; of masks in
    COCO's form it is the JSON file. Images of --data give names, sizes and digests. The store can be rethresholded,
    calibrated, audited, exported and trained on as any other.

    Images whose files cannot be read, and images without labels, are named and the exit code is 1; the others are
    imported all the same. An interrupted import is resumed by calling it again.
    """
    if dry_run:
        show_plan(hmsa_label.plan_labels(config), as_json)
        return
    summary = hmsa_label.import_labels(config, pipeline.open_display())
    show_summary(summary, as_json)
    lost = summary.images_failed + summary.images_without_labels
    ctx.exit(INTERRUPTED if summary.interrupted else int(lost > 0))
