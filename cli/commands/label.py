"""`hmsa-label run`: label every image that the store does not hold yet."""

import click

import hmsa_label
from hmsa_label import DataConfig, EngineConfig, GuardConfig, LabelConfig, RuleConfig, TeacherConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.errors import INTERRUPTED
from hmsa_label.cli.options import command, flag, settings

MAX_FAILURES_SHOWN = 20


@command("run", example="hmsa-label run --data /data/cityscapes --weights teacher.safetensors --store labels")
@settings(DataConfig, "data")
@settings(TeacherConfig, "teacher", skip=("cpu_threads",))
@settings(EngineConfig, "engine")
@settings(RuleConfig, "rule")
@settings(GuardConfig, "guard")
@settings(LabelConfig, "config")
@flag("-n --dry-run", "Show what would be done, and do nothing.", is_flag=True, section="General")
@click.pass_context
def run(ctx: click.Context, config: LabelConfig, dry_run: bool, as_json: bool) -> None:
    """Label the images that a store does not hold yet.

    Images that the store already has from the same teacher are skipped, so an interrupted run is resumed by calling it
    again. Images that cannot be read are listed and the exit code is 1; the others are labeled all the same. A later
    call tries them again if their files have changed, or with --retry-failed.
    """
    if dry_run:
        show_plan(hmsa_label.plan_labels(config), as_json)
        return
    summary = hmsa_label.label_images(config, pipeline.open_display())
    show_summary(summary, as_json)
    ctx.exit(INTERRUPTED if summary.interrupted else int(summary.images_failed > 0))


def show_plan(plan: "hmsa_label.LabelPlan", as_json: bool) -> None:
    """What a run would do."""
    if as_json:
        return output.show_json(plan)
    workers, device = plan.workers, plan.device
    to_write, in_flight = output.size(plan.estimated_store_bytes), output.size(plan.estimated_buffer_bytes)
    return output.show_facts({
        "data": plan.data + (f", split {plan.split}" if plan.split else ""),
        "store": plan.store + (f", about {to_write} to write" if to_write else ""),
        "images": _plan_of_images(plan),
        "rule": f"threshold {pipeline.rule_text(plan.threshold, plan.rule)}; evidence {', '.join(plan.evidence)}",
        "workers": f"{workers or 'as many as the cluster has GPUs'}, {device or 'on the cluster'}, {plan.executor}",
        "memory": in_flight and f"about {in_flight} of images in flight, beside the teachers' own",
    })  # fmt: skip


def _plan_of_images(plan: "hmsa_label.LabelPlan") -> str:
    changed, failed = plan.images_changed, plan.images_not_retried
    parts = [f"{plan.images_total} found", f"{plan.images_done} labeled already"]
    parts += [f"{failed} failed before and unchanged"] if failed else []
    parts += [f"{plan.images_to_do} to do" + (f", {changed} of them changed since" if changed else "")]
    return ", ".join(parts)


def show_summary(summary: "hmsa_label.LabelSummary", as_json: bool) -> None:
    """What a run did; failed images by name, the first twenty of them."""
    if as_json:
        return output.show_json(summary)
    speed, kept = summary.images_per_second, output.percent(summary.kept_share)
    output.show_facts({
        "store": summary.store,
        "version": f"{summary.version}, digest {summary.digest[:16]}",
        "images": f"{summary.images_labelled} labeled, {summary.images_failed} failed, "
        f"{summary.images_done_before} done before, "
        + (f"{summary.images_labelled_elsewhere} by other drivers, " if summary.images_labelled_elsewhere else "")
        + f"of {summary.images_total}",
        "kept": kept and f"{kept} of pixels {pipeline.rule_phrase(summary.threshold, summary.rule)}",
        "classes": pipeline.summary_of(summary.guard),
        "time": f"{summary.seconds:.1f} s" + (f", {speed:.2f} images/s" if speed else ""),
    })  # fmt: skip
    for failure in summary.failed[:MAX_FAILURES_SHOWN]:
        output.show(f"failed       {failure.key}: {failure.reason}")
    if len(summary.failed) > MAX_FAILURES_SHOWN:
        output.show(f"failed       {len(summary.failed) - MAX_FAILURES_SHOWN} more, listed by --json")
    if summary.images_not_retried:
        output.show(
            f"not retried  {summary.images_not_retried} of the failed images: their files are what they were when they "
            "failed. Repaired files are tried by themselves, --retry-failed tries all"
        )
    return None
