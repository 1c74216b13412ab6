"""`hmsa-label audit`: what a label store holds, where it came from, and whether it is intact."""

import click

from hmsa_label import pipeline
from hmsa_label.cli import output
from hmsa_label.cli.command import LazyGroup
from hmsa_label.cli.options import command, flag, settings
from hmsa_label.pipeline import StoreConfig

PLACE = "hmsa_label.cli.audit"
LOG_COLUMNS = ("version", "time", "kind", "images", "threshold", "run", "teacher", "digest")


@click.group("audit", cls=LazyGroup, places={name: f"{PLACE}:{name}" for name in ("log", "show", "verify")})
def audit() -> None:
    """Look into a label store.

    Its versions, where one version or label came from, and whether every byte is still as written.
    """


@command("log", example="hmsa-label audit log --store labels")
@settings(StoreConfig, "store")
def log(store: StoreConfig, as_json: bool) -> None:
    """List the versions of a store, the newest first."""
    versions = pipeline.audit_log(store)
    if as_json:
        output.show_json({"versions": versions})
        return
    rows = [{**entry, "digest": (entry["digest"] or "")[:12], "teacher": (entry["teacher_sha256"] or "")[:12]}
            for entry in versions]  # fmt: skip
    output.show_table(LOG_COLUMNS, [[row[column] for column in LOG_COLUMNS] for row in rows])


@command("show", example="hmsa-label audit show --store labels train_extra/troisdorf/troisdorf_000000_000073")
@settings(StoreConfig, "store")
@flag("--version", "Version to read.  [default: the last finished one]", section="Labels")
@click.argument("key", required=False)
def show(store: StoreConfig, version: str | None, key: str | None, as_json: bool) -> None:
    """Show where a version or a label came from.

    A version with its provenance or, given the KEY of an image, all that is known of its label.
    """
    facts = pipeline.audit_show(store, version, key)
    if as_json:
        output.show_json(facts)
        return
    output.show_tree(facts)


@command("verify", example="hmsa-label audit verify --store labels")
@settings(StoreConfig, "store")
@flag("--version", "Version to check.  [default: the last finished one]", section="Labels")
@flag(
    "--deep/--quick", "Read and hash every label, or only look whether each is there.", default=True, section="Labels"
)
@click.pass_context
def verify(ctx: click.Context, store: StoreConfig, version: str | None, deep: bool, as_json: bool) -> None:
    """Check that every label is still as written.

    Reads every label that the manifest lists and compares digests. The exit code is 1 if a problem is found.
    """
    report = pipeline.audit_verify(store, version, deep)
    if as_json:
        output.show_json(report)
    else:
        output.show_table(("key", "kind", "detail"), [[p["key"], p["kind"], p["detail"]] for p in report["problems"]])
        output.show(f"{report['images']} images, {len(report['problems']) or 'no'} problems")
    ctx.exit(0 if report["ok"] else 1)
