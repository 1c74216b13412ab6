"""Where a checkpoint came from: student -> label version -> runs -> teacher -> what the teacher was trained on.

Everything is read from the checkpoints' own metadata and the store's records, then checked link by link.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint, recorded_info
from hmsa_label.labelers.weights.networks import naming
from hmsa_label.pipeline.audit.trace_links import (
    BROKEN,
    Link,
    check_files,
    check_labels,
    check_runs,
    check_store,
    check_training_data,
    check_weights,
)
from hmsa_label.pipeline.audit.trace_rules import check_rule_of_run, check_rules
from hmsa_label.pipeline.config import TraceConfig
from hmsa_label.pipeline.teacher.weight_files import read_weights
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.location import Location, location_text
from hmsa_label.stores.result import Result
from hmsa_label.stores.runs.record import Run

STUDENT_FACTS = ("fine_tail", "images", "images_left_out", "leaked")
NETWORK_FACTS = ("model", "step", "val_miou", "hmsa_label", "code")
MAX_TEACHERS = 8  # of teachers' teachers; a chain that is longer goes in a circle


@dataclass(frozen=True, kw_only=True)
class NetworkFacts(Result):
    """A checkpoint's file, and what it says of itself.

    Attributes:
        checkpoint: its place; sha256: of the file.
        model, step, val_miou: which network, and how far it was trained; None if the file does not say, as a published
            one. hmsa_label, code: version of the package and state of its source tree.
        trained_on, coarse_labels: what it was trained on, as the file says, without the list of images.
    """

    checkpoint: str
    sha256: str
    model: str | None
    step: int | None
    val_miou: float | None
    hmsa_label: str | None
    code: dict[str, Any] | None
    seed: int | None
    init_weights: str | None
    trained_on: dict[str, Any] | None
    coarse_labels: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class StudentFacts(NetworkFacts):
    """A network that was trained on auto labels too.

    Attributes:
        fine_tail: share of the steps, at the end, on fine labels alone. images: with auto labels; images_left_out:
            those that had no labeled pixel.
        leaked: images held out for scoring that were trained on, as `allow_leak` admits.
    """

    fine_tail: float | None
    images: int | None
    images_left_out: int | None
    leaked: list[str] | None


@dataclass(frozen=True, kw_only=True)
class RunFacts(Result):
    """A run that made labels, and the package that it ran; `base_run` is the one whose evidence it used.

    Attributes:
        rule: what decided beside the threshold; None if nothing did.
        imported: where the labels are from, their format and digest, if no teacher of ours made them.
    """

    run: str
    kind: str
    began_at: str | None
    threshold: float | None
    rule: dict[str, Any] | None
    teacher_sha256: str | None
    package: dict[str, Any] | None
    base_run: str | None
    imported: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Trace(Result):
    """The chain of a checkpoint; the JSON object of `audit trace --json`.

    Attributes:
        student: the checkpoint's own facts, None for a network that saw no auto labels; then it stands as the teacher.
        version, digest, store, threshold, rule, class_thresholds, mix: the labels it was trained on, as it recorded
            them. trained_rule: the rule of the version with what the training changed of it.
        runs: id, kind, time, code and teacher of the runs that made them.
        teacher: facts of the teacher's file, as far as it is reachable; teacher_trained_on: its fine data, without the
            list of images; None if nobody recorded it.
        links: every check; problems: the broken ones; ok: whether there are none.
    """

    student: StudentFacts | None = None
    version: int | None = None
    digest: str | None = None
    store: str | None = None
    threshold: float | None = None
    rule: dict[str, Any] | None = None
    trained_rule: dict[str, Any] | None = None
    class_thresholds: dict[str, float] = field(default_factory=dict)
    mix: float | None = None
    runs: list[RunFacts] = field(default_factory=list)
    teacher_sha256: str | None = None
    teacher: NetworkFacts | None = None
    teacher_trained_on: dict[str, Any] | None = None
    ok: bool = True
    problems: list[dict[str, str]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def trace(checkpoint: Location, config: TraceConfig | None = None) -> Trace:
    """The chain of a checkpoint at a path or URL, down to the fine data of its teacher.

    Args:
        config: where its links are, if not where they were recorded.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no checkpoint of this package.
    """
    place, config = location_text(checkpoint), config or TraceConfig()
    data = read_weights(place)
    with naming(public_uri(place)):
        info = read_checkpoint(data)[1]
    sha256 = hashlib.sha256(data).hexdigest()
    facts = _network_facts(info, place, sha256)
    auto = info.get("auto_labels")
    if auto is None:
        links = check_training_data("teacher", info, config)
        return _judged(
            links, teacher=NetworkFacts(**facts), teacher_sha256=sha256, teacher_trained_on=facts["trained_on"]
        )
    links, below = _student_links("", info, config)
    return _judged(
        links,
        student=StudentFacts(**facts, **_taken(auto, STUDENT_FACTS)),
        **_taken(auto, ("version", "digest", "store", "threshold", "rule", "trained_rule", "mix", "teacher_sha256")),
        class_thresholds=auto.get("class_thresholds") or {},
        **below,
    )


def _student_links(prefix: str, info: dict[str, Any], config: TraceConfig) -> tuple[list[Link], dict[str, Any]]:
    """Links below a network trained on auto labels; and `runs`, `teacher`, `teacher_trained_on` as found there.

    Args:
        prefix: put before each part's name, such as "teacher's ".
    """
    auto = info["auto_labels"]
    links = check_training_data(f"{prefix}student", info, config)
    links += [_leak(f"{prefix}student", auto["leaked"])] if auto.get("leaked") else []
    store, found = check_store(f"{prefix}labels", auto, config)
    links += found
    runs: list[Run] = []
    if store is not None:
        links += check_labels(f"{prefix}labels", store, auto, info, config.deep)
        links += [check_files(f"{prefix}labels", store, info, config)] if config.deep else []
        links += check_rules(f"{prefix}labels", store, auto)
        runs, found = check_runs(f"{prefix}run", store, auto["teacher_sha256"])
        links += [*found, *(check_rule_of_run(f"{prefix}run", store, run) for run in runs)]
    recorded = [run.record["teacher"] for run in runs if run.record.get("teacher")]
    place = config.teacher or next((teacher.get("weights") for teacher in recorded), None)
    imported = next((teacher["imported"] for teacher in recorded if "imported" in teacher), None)
    data, link = check_weights(f"{prefix}teacher", place and str(place), auto["teacher_sha256"], imported)
    teacher, below = _teacher_links(prefix, data, recorded, config)
    facts = None if data is None else NetworkFacts(**_network_facts(teacher, str(place), auto["teacher_sha256"]))
    trained_on = _without_keys(teacher.get("trained_on"))
    below += _semantics_links(prefix, recorded, config)
    return [*links, link, *below], {
        "runs": [_run_facts(run) for run in runs], "teacher": facts, "teacher_trained_on": trained_on
    }  # fmt: skip


def _teacher_links(
    prefix: str, data: bytes | None, recorded: list[dict[str, Any]], config: TraceConfig
) -> tuple[dict[str, Any], list[Link]]:
    """(info of the teacher, checks of what it was trained on): from its file, else from what the run wrote down."""
    known = {"trained_on": next((teacher.get("trained_on") for teacher in recorded), None)}
    info = known if data is None else recorded_info(data)
    if info.get("auto_labels") and prefix.count("'s") < MAX_TEACHERS:
        # The options name places of the nearest teacher; those further up are only found where they were recorded.
        further = TraceConfig(deep=config.deep, store_options=config.store_options, data_options=config.data_options)
        return info, _student_links(f"{prefix}teacher's ", info, further)[0]
    return info, check_training_data(f"{prefix}teacher", info, config)


def _semantics_links(prefix: str, recorded: list[dict[str, Any]], config: TraceConfig) -> list[Link]:
    """Checks of the teacher that told the classes, where this was another one than found the instances."""
    found = {semantics["weights_sha256"]: semantics for teacher in recorded if (semantics := teacher.get("semantics"))}
    links = []
    for sha256, semantics in found.items():
        data, link = check_weights(f"{prefix}semantic teacher", semantics.get("weights"), sha256)
        links += [link, *_teacher_links(f"{prefix}semantic ", data, [semantics], config)[1]]
    return links


def _leak(part: str, leaked: list[str]) -> Link:
    detail = f"{len(leaked)} allowed by --allow-leak, such as {leaked[0]}"
    return Link(part=part, check="no leak recorded", state=BROKEN, detail=detail)


def _judged(links: list[Link], **facts: Any) -> Trace:
    broken = [link for link in links if link.state == BROKEN]
    problems = [{"part": link.part, "check": link.check, "detail": link.detail} for link in broken]
    return Trace(links=links, problems=problems, ok=not broken, **facts)


def _network_facts(info: dict[str, Any], place: str, sha256: str) -> dict[str, Any]:
    """The fields of `NetworkFacts`."""
    settings = info.get("config") or {}
    return {
        "checkpoint": public_uri(place),
        "sha256": sha256,
        **_taken(info, NETWORK_FACTS),
        "seed": settings.get("seed"),
        "init_weights": (settings.get("model") or {}).get("init_weights"),
        "trained_on": _without_keys(info.get("trained_on")),
        "coarse_labels": _without_keys(info.get("coarse_labels")),
    }


def _without_keys(trained_on: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if trained_on is None else {name: value for name, value in trained_on.items() if name != "keys"}


def _taken(facts: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: facts.get(name) for name in names}


def _run_facts(run: Run) -> RunFacts:
    record = run.record
    return RunFacts(
        run=run.id,
        kind=run.kind,
        began_at=record.get("began_at"),
        threshold=run.threshold,
        rule=run.rule,
        teacher_sha256=run.teacher_sha256,
        package=record.get("package"),
        base_run=record.get("base_run"),
        imported=(record.get("teacher") or {}).get("imported"),
    )
