"""What changes a store without a teacher: `audit tag`, `audit rollback`, `audit gc`, `rethreshold`; and `export`."""

import time

import click

import hmsa_label
from hmsa_label import GuardConfig, RuleConfig, StoreConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.commands.label import show_summary
from hmsa_label.cli.options import argument, command, flag, settings
from hmsa_label.cli.parameters import Duration

LINE_SECONDS = 10.0


@command("tag", example="hmsa-label audit tag --store labels paper-2 --version 8")
@settings(StoreConfig, "store")
@argument("name", required=True)
@flag("--version", "Version or tag to name.  [default: the last finished one]", section="Labels")
@flag("--message", "Why.", default="", section="Labels")
def tag(store: StoreConfig, name: str, version: str | None, message: str, as_json: bool) -> None:
    """Give a version a name that never moves.

    A tagged version is kept by `audit gc`, and its name can be used wherever a version can. The same call again
    changes nothing.
    """
    made = hmsa_label.tag_version(store, name, version, message)
    if as_json:
        output.show_json(made)
        return
    output.show(f"{made.name} is version {made.version}, digest {made.digest[:16]}")


@command("rollback", example="hmsa-label audit rollback --store labels 3")
@settings(StoreConfig, "store")
@argument("version", required=True)
@flag("--message", "Why.", default="", section="Labels")
def rollback(store: StoreConfig, version: str, message: str, as_json: bool) -> None:
    """Make an earlier version the newest one.

    VERSION is a number or a tag. Nothing is deleted: the versions in between stay readable, and the log keeps them.
    Unfinished runs are discarded.
    """
    made = hmsa_label.roll_back(store, version, message)
    if as_json:
        output.show_json(made)
        return
    same = "" if made.changed else " already; nothing was done"
    output.show(f"version {made.version} holds the labels of version {made.restores}{same}")


@command("gc", example="hmsa-label audit gc --store labels --keep-last 3 --apply")
@settings(StoreConfig, "store")
@flag("--keep-last", "Finished versions to keep, beside the tagged ones.  [default: all]", type=int, metavar="N",
      section="Labels")  # fmt: skip
@flag("--older-than", "Prune only versions made longer ago than this, such as 30d, 12h or 90m.", type=Duration(),
      section="Labels")  # fmt: skip
@flag("--apply", "Delete; without it, only say what would be deleted.", is_flag=True, section="Labels")
def gc(store: StoreConfig, keep_last: int | None, older_than: float | None, apply: bool, as_json: bool) -> None:
    """Delete pixels that nothing needs any more.

    Left-overs of killed and discarded runs and, with --keep-last or --older-than, the pixels of old versions that have
    no tag; with both, only of versions that both let go. What the newest version, a tag or an unfinished run needs is
    never touched.
    """
    garbage = hmsa_label.collect_garbage(store, keep_last=keep_last, older_than=older_than, apply=apply)
    if as_json:
        output.show_json(garbage)
        return
    verb = "deleted" if garbage.applied else "would delete"
    output.show(f"{verb} {pipeline.counted(garbage.objects, 'object')}, {output.size(garbage.bytes)}")
    output.show(f"versions without pixels then: {_listed(garbage.pruned)}; kept: {_listed(garbage.kept)}")


@command("rethreshold", example="hmsa-label rethreshold --store labels --threshold 0.8")
@settings(StoreConfig, "store")
@settings(RuleConfig, "rule")
@settings(GuardConfig, "guard")
def rethreshold(store: StoreConfig, rule: RuleConfig, guard: GuardConfig, as_json: bool) -> None:
    """Change the rule of all labels without the teacher.

    Makes a new version from the stored evidence, equal to what the teacher would have given. What is not given stays
    as it is; --preset begins anew. Thresholds must be among those that were stored with the labels; if one is not, they
    are listed. What needs more evidence than there is says which --evidence of run keeps it.
    """
    summary = hmsa_label.rethreshold(store, rule, Counter("images"), guard=guard)
    for text in summary.warnings:
        output.say(f"Warning: {text}")
    show_summary(summary, as_json)


@command("export", example="hmsa-label export --store labels --format cityscapes exported")
@settings(StoreConfig, "store")
@argument("destination", required=True)
@flag("--version", "Version or tag to export.  [default: the last finished one]", section="Labels")
@flag("--format layout", "PNG files in the layout of Cityscapes, COCO panoptic, or one dense Zarr array.",
      default=pipeline.EXPORT_LAYOUTS[0], type=click.Choice(pipeline.EXPORT_LAYOUTS), show_default=True,
      section="Export")  # fmt: skip
@flag("--name", "Label type in the names of PNG and JSON files.", default="gtAuto", show_default=True, section="Export")
def export(store: StoreConfig, destination: str, version: str | None, layout: str, name: str, as_json: bool) -> None:
    """Write a version for other tools.

    DESTINATION is a new folder or URL.
    """
    made = hmsa_label.export_labels(
        store, destination, version=version, layout=layout, name=name, on_image=Counter("images")
    )
    if as_json:
        output.show_json(made)
        return
    images, files = pipeline.counted(made.images, "image"), pipeline.counted(made.files, "file")
    output.show(f"{images} of version {made.version} in {made.destination}, {files}")
    output.say(f"not in these files: {made.left_out}")


class Counter:
    """Says on stderr how far a loop over images is, every ten seconds."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._due = time.monotonic() + LINE_SECONDS

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + LINE_SECONDS
            output.say(f"{done}/{total} {self.unit}")


def _listed(versions: list[int]) -> str:
    """Version numbers as text; 0, the empty store, has nothing to keep or lose."""
    return ", ".join(str(version) for version in versions if version) or "none"
