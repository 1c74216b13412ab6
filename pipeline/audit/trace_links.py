"""Single links of the chain from a student to its teacher's training data, each checked where it can be reached.

A check gives `ok`, `broken`, or `not checked` with the reason: what cannot be reached proves nothing either way.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hmsa_label.pipeline.config import TraceConfig
from hmsa_label.pipeline.data.datasets import FineLabelDataset
from hmsa_label.pipeline.teacher.weight_files import read_weights
from hmsa_label.pipeline.training.crops import keys_digest
from hmsa_label.pipeline.training.lineage import HELD_OUT_SPLITS, file_digests, held_out_images
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import NotAStore, StoreError
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.evidence import level_of
from hmsa_label.stores.format.rule import OFF
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import split_names
from hmsa_label.stores.runs.record import Run, read_run
from hmsa_label.stores.versions.label_store import LabelStore

OK, BROKEN, UNCHECKED = "ok", "broken", "not checked"
KEYS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Link:
    """One checked statement.

    Attributes:
        part: of the chain: student, labels, run or teacher; `teacher's labels` and so on where a teacher was itself
            trained on auto labels.
        check: what must hold. state: ok, broken or not checked. detail: what was found, or why it was not checked.
    """

    part: str
    check: str
    state: str
    detail: str


def held_out(keys: Iterable[str], val_split: str | None, trained: str = "") -> list[str]:
    """Keys of images that are there to be scored: those of splits called val or test, or validated on in training.

    Args:
        trained: splits that were trained on by their names, which are none of the former.
    """
    splits = ({*HELD_OUT_SPLITS} - {*split_names(trained)}) | {*(split_names(val_split) if val_split else ())}
    return sorted(key for key in keys if key.partition("/")[0] in splits)


def check_held_out(part: str, what: str, keys: Iterable[str], val_split: str | None, trained: str = "") -> Link:
    """No image that is scored is among those that were trained on."""
    found = held_out(keys, val_split, trained)
    check = f"no val or test image among the {what}"
    if not found:
        return Link(part=part, check=check, state=OK, detail="none")
    listed = ", ".join(found[:KEYS_SHOWN]) + (", ..." if len(found) > KEYS_SHOWN else "")
    return Link(part=part, check=check, state=BROKEN, detail=f"{len(found)}: {listed}")


def check_training_data(part: str, info: dict[str, Any], config: TraceConfig) -> list[Link]:
    """The images a network was trained on, fine and coarse: the recorded list, the list and the labels as they are."""
    trained_on, coarse = info.get("trained_on"), info.get("coarse_labels")
    if not trained_on:
        return [Link(part=part, check="fine data", state=UNCHECKED, detail="the checkpoint does not say; published?")]
    settings = info.get("config") or {}
    links = _check_drawn(part, "fine", trained_on, settings, config)
    return [*links, *(_check_drawn(part, "coarse", coarse, settings, config) if coarse else [])]


def _check_drawn(
    part: str, kind: str, drawn: dict[str, Any], settings: dict[str, Any], config: TraceConfig
) -> list[Link]:
    keys = drawn["keys"]
    recorded = _compare(part, f"recorded list of {kind} images", keys_digest(keys), drawn["keys_sha256"])
    left_out = check_held_out(part, f"{kind} images", keys, settings.get("val_split"), drawn["split"])
    return [recorded, left_out, *_check_drawn_now(part, kind, drawn, settings, config)]


def _check_drawn_now(
    part: str, kind: str, drawn: dict[str, Any], settings: dict[str, Any], config: TraceConfig
) -> list[Link]:
    data, place, check = settings.get("data") or {}, config.data or drawn["data"], f"{kind} images"
    dataset, options = data.get("dataset", "cityscapes"), config.data_options
    # A run's record says which images its teacher saw, but not how they were listed: a difference then proves nothing.
    differs = BROKEN if data else UNCHECKED
    try:
        open_images(dataset, place, options)
    except Exception as error:  # storages raise errors of their own kinds
        return [Link(part=part, check=check, state=UNCHECKED, detail=_reason(error))]
    try:
        now = FineLabelDataset(
            place,
            dataset=dataset,
            split=drawn["split"],
            labels=drawn["labels"],
            limit=(data if kind == "fine" else settings.get("second") or {}).get("limit"),
            storage_options=options,
        )
    except (ValueError, NotAStore) as error:  # the root is there, the split is not
        return [Link(part=part, check=check, state=differs, detail=str(error))]
    except Exception as error:
        return [Link(part=part, check=check, state=UNCHECKED, detail=_reason(error))]
    changed = set(now.keys) ^ set(drawn["keys"])
    if changed:
        detail = f"{len(changed)} came or went in {now.source.root}, such as {min(changed)}"
        return [Link(part=part, check=check, state=differs, detail=detail)]
    there = Link(part=part, check=check, state=OK, detail=f"all {len(now)} are in {now.source.root}")
    links = [there, _check_drawn_labels(part, f"{kind} labels", drawn.get("labels_sha256"), lambda: now.digest)]
    instances = drawn.get("instances_sha256")  # of panoptic models alone
    if instances is not None:
        links.append(_check_drawn_labels(part, f"{kind} instances", instances, lambda: now.instances_digest))
    return links


def _check_drawn_labels(part: str, check: str, recorded: str | None, digest: Callable[[], str | None]) -> Link:
    if recorded is None:
        return Link(part=part, check=check, state=UNCHECKED, detail="the checkpoint has no digest of them")
    try:
        return _compare(part, check, str(digest()), recorded)
    except ValueError as error:  # a file that was listed is gone or no file any more
        return Link(part=part, check=check, state=BROKEN, detail=_reason(error))
    except Exception as error:
        return Link(part=part, check=check, state=UNCHECKED, detail=_reason(error))


def check_store(part: str, auto: dict[str, Any], config: TraceConfig) -> tuple[LabelStore | None, list[Link]]:
    """The store at the version that a student names, if it opens, and whether it is the one that was trained on."""
    place = config.store or auto["store"]
    try:
        store = LabelStore.open(place, auto["version"], storage_options=config.store_options)
    except NotAStore as error:
        gone = not _holds_anything(str(place), config.store_options)
        return None, [Link(part=part, check="store", state=UNCHECKED if gone else BROKEN, detail=str(error))]
    except StoreError as error:
        return None, [Link(part=part, check="version", state=BROKEN, detail=str(error))]
    except Exception as error:  # storages raise errors of their own kinds
        return None, [Link(part=part, check="store", state=UNCHECKED, detail=_reason(error))]
    same = _compare(part, "store", store.identity.uuid, auto["store_uuid"])
    return store, [same, _compare(part, f"digest of version {store.version}", store.digest, auto["digest"])]


def check_labels(part: str, store: LabelStore, auto: dict[str, Any], info: dict[str, Any], deep: bool) -> list[Link]:
    """The labels themselves: whole, of images that may be trained on, at thresholds that the store holds."""
    problems = verify(
        store.root.uri, store.version, deep=deep, storage_options=store.root.storage_options
    )  # not store.uri, from which credentials were cut
    detail = (
        counted(len(store), "image") + ", " + ("every label read and hashed" if deep else "--deep reads every label")
    )
    if problems:
        first = problems[0]
        detail = f"{counted(len(problems), 'problem')}, such as {first.kind} {first.key}: {first.detail}"
    whole = Link(part=part, check="labels as written", state=BROKEN if problems else OK, detail=detail)
    val_split = (info.get("config") or {}).get("val_split")
    left_out = check_held_out(part, "labeled images", store.keys(), val_split)
    return [whole, left_out, _check_thresholds(part, store, auto)]


def check_files(part: str, store: LabelStore, info: dict[str, Any], config: TraceConfig) -> Link:
    """No file of a held-out image is among those that were labeled, whatever it was called there."""
    check, settings = "no val or test file among the labeled images", info.get("config") or {}
    data, trained_on = settings.get("data") or {}, info["trained_on"]
    known = set(store.table(["source_sha256"])["source_sha256"].to_pylist())
    try:
        source = open_images(data.get("dataset", "cityscapes"), config.data or trained_on["data"], config.data_options)
        digests = file_digests(source, held_out_images(source, str(settings.get("val_split") or "")))
    except Exception as error:  # storages raise errors of their own kinds
        return Link(part=part, check=check, state=UNCHECKED, detail=_reason(error))
    found = sorted(key for key, digest in digests.items() if digest in known)
    if found:
        return Link(part=part, check=check, state=BROKEN, detail=f"{len(found)}, such as {found[0]}")
    return Link(part=part, check=check, state=OK, detail=f"none of {len(digests)}")


def _check_thresholds(part: str, store: LabelStore, auto: dict[str, Any]) -> Link:
    wanted = {auto.get("threshold"), *(auto.get("class_thresholds") or {}).values()} - {None, OFF}
    rows = store.table(["threshold", "evidence_segment", "code_sha256"])
    own, without = set(rows["threshold"].to_pylist()), rows["code_sha256"].null_count
    rows = rows.filter(rows["code_sha256"].is_valid())
    spoken = ", ".join(f"{value:g}" for value in sorted(wanted)) or "the labels' own"
    try:
        for segment in sorted(rows["evidence_segment"].unique().to_pylist()):
            for value in wanted - own:
                level_of(value, store.grid(segment))
    except StoreError as error:  # not on the grid, or no grid any more
        return Link(part=part, check="threshold", state=BROKEN, detail=str(error))
    if wanted - own and without:
        return Link(part=part, check="threshold", state=BROKEN, detail=f"{spoken}: some labels keep no evidence")
    return Link(part=part, check="threshold", state=OK, detail=spoken)


def check_runs(part: str, store: LabelStore, teacher_sha256: str) -> tuple[list[Run], list[Link]]:
    """The runs that made a version's labels, and whether each worked with the teacher that the student names."""
    runs, links = [], []
    for run_id in sorted(set(store.table(["run"])["run"].to_pylist())):
        try:
            run = read_run(store.root, run_id)
        except StoreError as error:
            links.append(Link(part=part, check=f"record of {run_id}", state=BROKEN, detail=str(error)))
            continue
        runs.append(run)
        links.append(_compare(part, f"teacher of {run_id}", run.teacher_sha256, teacher_sha256))
    return runs, links


def check_weights(
    part: str, place: str | None, sha256: str, imported: dict[str, Any] | None = None
) -> tuple[bytes | None, Link]:
    """The teacher's weights file, if it is there and the one that labeled.

    Args:
        imported: what a run recorded of labels made elsewhere; then there is no such file.
    """
    if imported is not None:
        made_by = f", made by {imported['made_by']}" if imported.get("made_by") else ""
        detail = f"the labels were imported from {imported.get('labels')} ({imported.get('format')}{made_by}); "
        return None, Link(part=part, check="weights", state=UNCHECKED, detail=f"{detail}no record of their teacher")
    if place is None:
        detail = "no run tells where the file was; --teacher names one"
        return None, Link(part=part, check="weights", state=UNCHECKED, detail=detail)
    try:
        data = read_weights(place)
    except FileNotFoundError:
        detail = f"no file {place}; --teacher names another place"
        return None, Link(part=part, check="weights", state=UNCHECKED, detail=detail)
    except Exception as error:  # storages raise errors of their own kinds
        return None, Link(part=part, check="weights", state=UNCHECKED, detail=_reason(error))
    link = _compare(part, "weights", hashlib.sha256(data).hexdigest(), sha256, place)
    return (data if link.state == OK else None), link


def _compare(part: str, check: str, found: str | None, recorded: str | None, place: str = "") -> Link:
    at = f"{place}: " if place else ""
    if found == recorded:
        return Link(part=part, check=check, state=OK, detail=f"{at}{_short(found)}")
    return Link(part=part, check=check, state=BROKEN, detail=f"{at}is {_short(found)}, recorded was {_short(recorded)}")


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:16]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _holds_anything(place: str, options: dict[str, Any]) -> bool:
    try:
        return bool(FileRoot(place, dict(options)).list_names())
    except Exception:  # what cannot be listed cannot be judged
        return False
