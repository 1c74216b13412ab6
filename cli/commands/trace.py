"""`hmsa-label audit trace`: the chain from a student back to its teacher's training data."""

from collections.abc import Mapping

import click

import hmsa_label
from hmsa_label import TraceConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import argument, command, settings


@command("trace", example="hmsa-label audit trace student/last.safetensors")
@argument("checkpoint", required=True)
@settings(TraceConfig, "config")
@click.pass_context
def trace(ctx: click.Context, /, checkpoint: str, config: TraceConfig, as_json: bool) -> None:
    """Show where a student came from, and check it.

    From the checkpoint to the label version, the runs that made it, the teacher, and what the teacher was trained on.
    Links that cannot be reached are named and do not count; the exit code is 1 if one is broken.
    """
    found = hmsa_label.trace(checkpoint, config)
    if as_json:
        output.show_json(found)
    else:
        output.show_facts(_chain(found))
        output.show("")
        output.show_table(("state", "part", "check", "found"),
                          [(link.state, link.part, link.check, link.detail) for link in found.links])  # fmt: skip
        output.show("")
        output.show(_verdict(found))
    ctx.exit(0 if found.ok else 1)


def _chain(found: "hmsa_label.Trace") -> dict[str, str | None]:
    """Name and text of each part of the chain, the newest first."""
    labels = None
    if found.student is not None and found.version is not None:
        trained = found.trained_rule or {"threshold": found.threshold, "rule": found.rule}
        rule = pipeline.rule_text(trained["threshold"], trained.get("rule")) or "their own"
        labels = f"version {found.version}, digest {(found.digest or '-')[:16]}, threshold {rule}, mix {found.mix:g}"
        labels = f"{labels}; {found.store}"
    return {
        "student": _network(found.student),
        "its fine data": _data(None if found.student is None else found.student.trained_on),
        "labels": labels,
        **{f"run {run.run}": _run(run) for run in found.runs},
        "teacher": _network(found.teacher) or _without_file(found),
        "its training data": _data(found.teacher_trained_on) or "not recorded",
        "its coarse data": _data(None if found.teacher is None else found.teacher.coarse_labels),
    }


def _without_file(found: "hmsa_label.Trace") -> str | None:
    if found.teacher_sha256 is None:
        return None
    kind = "imported labels, " if any(run.imported for run in found.runs) else ""
    return f"{kind}sha256 {found.teacher_sha256[:16]}"


def _network(facts: "hmsa_label.NetworkFacts | None") -> str | None:
    if facts is None:
        return None
    miou = "" if facts.val_miou is None else f", validation mIoU {facts.val_miou:.4f}"
    code = facts.code or {}
    commit = f", code {code['commit'][:12]}{' with changes' if code.get('changed') else ''}" if code else ""
    step = "" if facts.step is None else f", step {facts.step}"
    return f"{facts.model or 'published'}{step}{miou}, sha256 {facts.sha256[:16]}{commit}; {facts.checkpoint}"


def _data(trained_on: Mapping[str, object] | None) -> str | None:
    if trained_on is None:
        return None
    images = "image" if trained_on["images"] == 1 else "images"
    return f"{trained_on['images']} {images} of {trained_on['split']} with {trained_on['labels']}; {trained_on['data']}"


def _run(run: "hmsa_label.RunFacts") -> str:
    package = run.package or {}
    commit = (package.get("git") or {}).get("commit")
    made_by = f"hmsa-label {package.get('version')}" + (f" at {commit[:12]}" if commit else "")
    imported = run.imported or {}
    source = f", imported from {imported['labels']} ({imported['format']})" if imported else ""
    return f"{run.kind}{source}, {run.began_at}, {made_by}"


def _verdict(found: "hmsa_label.Trace") -> str:
    unchecked = sum(link.state == "not checked" for link in found.links)
    missing = f", {unchecked} could not be checked" if unchecked else ""
    return f"{pipeline.counted(len(found.links), 'link')}: {len(found.problems) or 'none'} broken{missing}"
