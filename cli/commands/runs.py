"""`hmsa-label runs` and `hmsa-label status`: who labels into a store, or did, told from the store alone."""

import hmsa_label
from hmsa_label import StoreConfig, pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import argument, command, settings

COLUMNS = (
    "run",
    "kind",
    "begun",
    "threshold",
    "host",
    "state",
    "done",
    "of",
    "failed",
    "images/s",
    "last sign of life",
)


@command("runs", example="hmsa-label runs --store s3://bucket/labels")
@settings(StoreConfig, "store")
def runs(store: StoreConfig, as_json: bool) -> None:
    """List the runs of a store, the newest first.

    From any machine that reaches the store. A run that is live writes a sign of life every half minute; one that fell
    silent without an end died, and the same `run` command continues it.
    """
    found = hmsa_label.list_runs(store)
    if as_json:
        output.show_json({"runs": found})
        return
    output.show_table(COLUMNS, [_row(run) for run in found])


@command("status", example="hmsa-label status --store s3://bucket/labels")
@settings(StoreConfig, "store")
@argument("run")
def status(store: StoreConfig, run: str | None, as_json: bool) -> None:
    """Show how far a run is, and what happened to it.

    RUN is an id that `hmsa-label runs` lists; without it the newest run is shown.
    """
    facts = hmsa_label.run_status(store, run)
    if as_json:
        output.show_json(facts)
        return
    output.show_facts(_facts(facts))
    for failure in facts.last_failures or []:
        output.show(f"failed   {failure['key']}: {failure['reason']}")
    for loss in facts.last_losses or []:
        output.show(f"lost     worker {loss['worker']} at {loss['time']}: {loss['reason']}")
    if len(facts.attempts) > 1:
        output.show("")
        rows = [
            ((a.began_at or "-")[:19], a.host, a.state, a.images_labelled, (a.seen_at or "-")[:19])
            for a in facts.attempts
        ]
        output.show_table(("attempt begun", "host", "state", "labeled", "last sign of life"), rows)


def _row(run: "hmsa_label.RunState") -> list[object]:
    rate = run.images_per_second
    seen_at = (run.seen_at or "-")[:19]
    threshold = pipeline.rule_name(run.threshold, run.rule)
    return [run.run, run.kind, run.began_at, threshold, run.host, run.state, run.images_done,
            run.images_total, run.images_failed, f"{rate:.2f}" if rate else None, seen_at]  # fmt: skip


def _facts(facts: "hmsa_label.RunStatus") -> dict[str, object]:
    state, live = facts.state, facts.state in ("live", "draining")
    rate, left = facts.images_per_second, facts.seconds_left
    silent = f"died: no sign of life since {facts.seen_at}; the same `run` command continues it"
    return {
        "run": f"{facts.run} ({facts.kind}), begun {facts.began_at} on {facts.host}",
        "state": silent if state == "died" else state + (f", last sign of life {facts.seen_at}" if live else ""),
        "error": facts.error,
        "threshold": pipeline.rule_text(facts.threshold, facts.rule),
        "images": None if facts.images_total is None else f"{facts.images_done} of {facts.images_total} done, "
        f"{facts.images_failed} failed" + (f", {rate:.2f} images/s" if rate else ""),
        "version": facts.version,
        "left": output.duration(left) if live and left else None,
        "workers": f"{facts.workers_ready} of {facts.workers} ready" if live and facts.workers else None,
        "restarts": facts.restarts or None,
    }  # fmt: skip
