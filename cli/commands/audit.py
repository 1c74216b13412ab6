"""`hmsa-label audit`: what a label store holds, where it came from, and whether it is intact."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

import hmsa_label
from hmsa_label import StoreConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.command import LazyGroup
from hmsa_label.cli.options import argument, command, flag, settings
from hmsa_label.cli.parameters import Section, not_on_command_line

PLACES = (
    {name: f"hmsa_label.cli.commands.audit:{name}" for name in ("log", "show", "verify", "diff", "card")}
    | {name: f"hmsa_label.cli.commands.versions:{name}" for name in ("tag", "rollback", "gc")}
    | {"trace": "hmsa_label.cli.commands.trace:trace"}
)
LOG_COLUMNS = ("version", "time (UTC)", "kind", "images", "rule", "teacher", "digest", "remarks")
UNFINISHED = ("begin", "progress", "pause")  # commits with part of a run; tag, gc and close change no label
MAX_CHANGES_SHOWN = 10
WIDTH = 100


@click.group("audit", cls=LazyGroup, places=PLACES)
def audit() -> None:
    """Look into a label store and its versions.

    Where labels came from, whether every byte is still as written, and what changed from one version to another.
    """


@command("log", example="hmsa-label audit log --store labels")
@settings(StoreConfig, "store")
@flag("--progress", "List every commit of a run, not only finished versions.", is_flag=True, section="Labels")
def log(store: StoreConfig, progress: bool, as_json: bool) -> None:
    """List the versions of a store, the newest first."""
    versions = hmsa_label.list_versions(store, progress=progress)
    if as_json:
        output.show_json({"versions": versions})
        return
    output.show_table(LOG_COLUMNS, map(_log_row, versions))
    if rules := _long_rules(versions):
        output.show("\n" + "\n".join(rules))


@command("show", example="hmsa-label audit show --store labels train_extra/troisdorf/troisdorf_000000_000073")
@settings(StoreConfig, "store")
@argument("name")
@flag("--version", "Version or tag to look at an image in.  [default: the last finished one]", section="Labels")
@flag("--png", "File to draw an image's label into, in the colors of its classes.", type=click.Path(dir_okay=False),
      section="Labels")  # fmt: skip
def show(store: StoreConfig, name: str | None, version: str | None, png: str | None, as_json: bool) -> None:
    """Show where a version or a label came from.

    NAME is a version, a tag, `head` for unfinished progress, or the key of an image; without it the last finished
    version is shown.
    """
    facts = hmsa_label.show(store, name, version)
    if png is not None:
        if name is None or isinstance(facts, hmsa_label.VersionFacts):
            raise ValueError(f"--png draws one image's label; {name or 'a version'} is not the key of an image")
        Path(png).write_bytes(hmsa_label.picture_of_label(store, name, version))
    if as_json:
        output.show_json(facts)
        return
    if isinstance(facts, hmsa_label.VersionFacts):
        _show_version(facts)
    else:
        _show_image(facts)


@command("verify", example="hmsa-label audit verify --store labels")
@settings(StoreConfig, "store")
@flag("--version", "Version or tag to check.  [default: the last finished one]", section="Labels")
@flag("--all", "Check every version that has its pixels, each label once.", is_flag=True, section="Labels")
@flag("--deep/--quick", "Read and hash every label, or only look for it.", default=True, show_default=True,
      section="Check")  # fmt: skip
@flag("--sources", "Data root: also check that the images are still those that were labeled.", section="Check")
@flag("--data-options", "fsspec options of that data root; not on the command line.", type=Section(), default="{}",
      callback=not_on_command_line, section="Check")  # fmt: skip
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    store: StoreConfig,
    version: str | None,
    sources: str | None,
    data_options: dict[str, object],
    as_json: bool,
    **asked: bool,
) -> None:
    """Check that every label is still as written.

    Reads every label that the manifest lists and compares digests. The exit code is 1 if a problem is found.
    """
    if asked["all"] and version is not None:
        raise ValueError("--all looks at every version, --version at one: give only one of them")
    report = hmsa_label.verify(store, version, every=asked["all"], deep=asked["deep"], sources=sources,
                               source_options=data_options)  # fmt: skip
    if as_json:
        output.show_json(report)
    else:
        for problem in report.problems:
            output.show(f"{problem.kind}  {problem.key or 'store'}: {problem.detail}")
        of = f" of {pipeline.counted(len(report.versions), 'version')}" if asked["all"] else ""
        found = pipeline.counted(len(report.problems), "problem") if report.problems else "no problems"
        output.show(f"{pipeline.counted(report.images, 'image')}{of}, {found}")
        if report.repair:
            output.show(f"repair: `{report.repair}`, with the other options of their run, labels these images again")
    ctx.exit(0 if report.ok else 1)


@command("diff", example="hmsa-label audit diff --store labels 3 8")
@settings(StoreConfig, "store")
@argument("a", required=True)
@argument("b")
@flag("--pixels/--no-pixels", "Compare pixel by pixel.", default=True, show_default=True, section="Labels")
def diff(store: StoreConfig, a: str, b: str | None, pixels: bool, as_json: bool) -> None:
    """Show what changed from version A to version B.

    Versions are numbers or tags; without B the last finished version is taken.
    """
    changes = hmsa_label.diff(store, a, b, pixels=pixels)
    if as_json:
        output.show_json(changes)
        return
    _show_diff(changes)


@command("card", example="hmsa-label audit card --store labels > CARD.md")
@settings(StoreConfig, "store")
@argument("version")
@flag("--format", "Markdown for people, or Croissant metadata (JSON-LD) for programs.", default="markdown",
      show_default=True, type=click.Choice(["markdown", "croissant"]), section="Labels")  # fmt: skip
def card(store: StoreConfig, version: str | None, format: str, as_json: bool) -> None:
    """Print the card of a version.

    For those who train on the labels: classes, coverage, origin, settings, and what to know before use.
    """
    facts = hmsa_label.card(store, version)
    if format == "croissant":
        output.show_json(hmsa_label.render_croissant(facts))
    elif as_json:
        output.show_json(facts)
    else:
        output.show(hmsa_label.render_card(facts))


def _log_row(entry: "hmsa_label.Version") -> list[object]:
    tags = [f"{name} (file damaged)" if name in entry.damaged_tags else name for name in entry.tags]
    unfinished = "unfinished" if entry.kind in UNFINISHED else None
    remarks = [*tags, entry.note, "pruned" if entry.pruned else None, unfinished]
    remarks += [f"restores {entry.restores}" if entry.restores is not None else None]
    rule = pipeline.rule_name(entry.threshold, entry.rule)
    return [entry.version, entry.time[:16], entry.kind, entry.images, rule, (entry.teacher_sha256 or "-")[:8],
            (entry.digest or "-")[:12], ", ".join(filter(None, remarks))]  # fmt: skip


def _long_rules(versions: Iterable["hmsa_label.Version"]) -> list[str]:
    """The rules that the table has no room for, in full, each with its versions."""
    found: dict[str, list[int]] = {}
    for entry in versions:
        text = pipeline.rule_text(entry.threshold, entry.rule)
        if text is not None and entry.rule and text != pipeline.rule_name(entry.threshold, entry.rule):
            found.setdefault(text, []).append(entry.version)
    lines = [f"rule of {', '.join(map(str, numbers))}: {text}" for text, numbers in found.items()]
    return [textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in lines]


def _classes(facts: "hmsa_label.VersionFacts") -> dict[str, Mapping[str, object]]:
    """The columns of the table of a version's classes, those that tell something.

    `kept` is the share of the pixels predicted as the class that the rule keeps; `agree` and `held` what the teacher's
    label and the label have of its polygons.
    """
    summary, own = facts.summary, (facts.rule or {}).get("class_thresholds") or {}
    columns: dict[str, Mapping[str, object]] = {
        "pixels": summary.class_px,
        "share": _rounded(summary.class_share),
        "images": summary.images_with_class,
        "instances": summary.class_instances or {},
        "threshold": {name: own.get(name, facts.threshold) for name in summary.class_px} if own else {},
        "kept": _rounded(summary.class_kept_share),
        "agree": _rounded(summary.class_polygon_agreement),
        "held": _rounded(summary.class_polygon_held),
    }
    return {name: column for name, column in columns.items() if any(value is not None for value in column.values())}


def _rounded(shares: Mapping[str, float | None] | None) -> dict[str, object]:
    return {name: None if share is None else f"{share:.3f}" for name, share in (shares or {}).items()}


def _show_version(facts: "hmsa_label.VersionFacts") -> None:
    """All that is known of a version, its classes as a table at the end."""
    document, names = facts.to_dict(), list(facts.summary.class_px)
    text = pipeline.rule_text(facts.threshold, facts.rule)
    document["rule"] = text and textwrap.fill(text, WIDTH - 8, subsequent_indent="    ")
    document["summary"] = {
        name: figure for name, figure in document["summary"].items() if not name.startswith(("class_", "images_with_"))
    }
    output.show_tree(document)
    columns = _classes(facts)
    output.show("")
    output.show_table(
        ("class", *columns), ([name, *(column.get(name) for column in columns.values())] for name in names)
    )


def _show_image(facts: "hmsa_label.ImageHistory") -> None:
    """All that is known of an image, with its rules in words."""
    document = facts.to_dict()
    for entry in [*document["history"], *([document["row"]] if document["row"] else [])]:
        more = json.loads(entry["rule"]) if entry["rule"] else None
        entry["rule"] = pipeline.rule_text(entry["threshold"], more)
    output.show_tree(document)


def _show_diff(changes: "hmsa_label.Diff") -> None:
    pixels, compared = changes.pixels_changed, changes.pixels_compared
    output.show_facts({
        "versions": f"{changes.a} -> {changes.b}",
        "images": f"{len(changes.added)} added, {len(changes.removed)} removed, "
        f"{len(changes.relabelled)} relabeled, {changes.unchanged} unchanged",
        "pixels": None if pixels is None else f"{pixels} changed of {compared}"
        + (f", {output.percent(pixels / compared)}" if compared else ""),
    })  # fmt: skip
    if changes.worst:
        output.show("")
        rows = [(key, output.percent(share)) for key, share in changes.worst]
        output.show_table(("most changed images", "changed"), rows)
    if changes.instances:
        output.show("")
        changed = [(name, n.added, n.removed, n.changed) for name, n in changes.instances.items()]
        output.show_table(("instances of", "added", "removed", "changed"), changed)
    if changes.confusion and pixels:
        output.show("")
        output.show_table(("from", "to", "pixels"), _largest_changes(changes.names, changes.confusion))


def _largest_changes(names: list[str], confusion: list[list[int]]) -> list[tuple[str, str, int]]:
    """(class before, class after, pixels) of the most frequent changes, the most frequent first."""
    changed = [
        (names[i], names[j], count)
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(changed, key=lambda change: -change[2])[:MAX_CHANGES_SHOWN]
