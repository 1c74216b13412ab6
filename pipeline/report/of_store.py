"""What a report shows of a version of a label store: pictures, class pixels, and what other thresholds would give."""

from dataclasses import dataclass, replace

import numpy as np

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.report.pictures import Report, ReportImage, ThresholdRow
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.arrays import CODE
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.images.source import ImageRef, ImageSource
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import sources_of

Evidence = tuple[U8, U8, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Pixels over many images at one threshold; `right` of the `both` that lie in coarse polygons have their class."""

    size: int = 0
    kept: int = 0
    both: int = 0
    right: int = 0


def report_version(
    store: LabelStore, source: ImageSource, refs: list[ImageRef], *, threshold: float, pictures: int
) -> Report:
    """A report of the labels that the store holds for these images; its title, facts and IoU are left to the caller.

    Args:
        source: where the images come from; refs: those to report on. Images without a label are left out.
        threshold: the one that the labels were made with.
        pictures: how many images to show, spread evenly from the best kept one to the worst.

    Raises:
        LabelMissing: if the store holds none of the images.
        BadImage: if an image that was labeled cannot be read any more.
    """
    classes = ClassTable.from_dict(store.classes)
    known = {ref.key: ref for ref in refs if ref.key in store}
    if not known:
        raise LabelMissing(f"version {store.version} of {store.uri} holds none of the {len(refs)} images to report on")
    rows = [row for row in store.table(["key", "kept_share", "class_px"]).to_pylist() if row["key"] in known]
    shares = {row["key"]: float(row["kept_share"]) for row in rows}
    return Report(
        title=f"Labels in {store.uri}, version {store.version}",
        facts=[],
        names=classes.names,
        colors=classes.colors,
        class_px=np.sum([row["class_px"] for row in rows], axis=0).astype(int).tolist(),
        threshold=threshold,
        thresholds=_thresholds(store, source, list(known.values()), classes),
        images=[_shown(store, source, known[key], classes, shares[key]) for key in _spread(shares, pictures)],
    )


def _thresholds(
    store: LabelStore, source: ImageSource, refs: list[ImageRef], classes: ClassTable
) -> list[ThresholdRow]:
    """A row for each threshold that is stored for every one of the images, ascending; the rest of the rule holds."""
    totals: dict[float, list[_Counts]] = {}
    for ref in refs:
        evidence = _evidence(store, ref.key)
        if evidence is None:
            return []
        coarse, rule = _coarse(source, ref, classes), store.rule(ref.key)
        sources, bounds = sources_of(store, ref.key, rule), store.bounds(ref.key)
        for threshold in evidence[2]:
            label = cut(sources, replace(rule, threshold=threshold), bounds).label
            totals.setdefault(threshold, []).append(_count(label, coarse))
    complete = {threshold: counts for threshold, counts in totals.items() if len(counts) == len(refs)}
    return [_row(threshold, counts) for threshold, counts in sorted(complete.items())]


def _count(label: U8, coarse: U8 | None) -> _Counts:
    kept = label != 255
    both = kept & (coarse != 255) if coarse is not None else np.zeros_like(kept)
    right = (label == coarse) & both if coarse is not None else both
    return _Counts(size=label.size, kept=int(kept.sum()), both=int(both.sum()), right=int(right.sum()))


def _row(threshold: float, counts: list[_Counts]) -> ThresholdRow:
    both = sum(count.both for count in counts)
    return ThresholdRow(
        threshold=threshold,
        kept_share=sum(count.kept for count in counts) / sum(count.size for count in counts),
        agreement=sum(count.right for count in counts) / both if both else None,
    )


def _spread(shares: dict[str, float], number: int) -> list[str]:
    """Keys from the best kept image to the worst, evenly spaced, so that failures show as well."""
    ranked = sorted(shares, key=lambda key: (-shares[key], key))
    places = np.unique(np.linspace(0, len(ranked) - 1, min(number, len(ranked))).round().astype(int))
    return [ranked[place] for place in places]


def _shown(
    store: LabelStore, source: ImageSource, ref: ImageRef, classes: ClassTable, kept_share: float
) -> ReportImage:
    evidence = _evidence(store, ref.key)
    return ReportImage(
        key=ref.key,
        image=decode_image(source.read(ref.image)),
        label=store.read(ref.key),
        coarse=_coarse(source, ref, classes),
        code=None if evidence is None else evidence[1],
        grid=() if evidence is None else evidence[2],
        instance=store.instances(ref.key)[0] if ref.key in store.keys_with_instances() else None,
        note=f"{100 * kept_share:.1f} % of the pixels kept",
    )


def _coarse(source: ImageSource, ref: ImageRef, classes: ClassTable) -> U8 | None:
    if ref.coarse is None:
        return None
    return classes.train_ids_from(classes_of(source))[decode_labels(source.read(ref.coarse))]


def _evidence(store: LabelStore, key: str) -> Evidence | None:
    """Arg-max, codes and grid of an image; None when the run kept no evidence."""
    if store.receipt(key).array(CODE) is None:
        return None
    return store.read_evidence(key)
