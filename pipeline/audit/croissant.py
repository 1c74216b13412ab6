"""Croissant metadata of a version: what machines that index data sets read (https://docs.mlcommons.org/croissant/docs/).

Provenance follows the responsible-AI vocabulary and W3C PROV; pixels are described as files, the manifest as a table.
"""

from typing import Any

from hmsa_label.pipeline.rule_names import rule_text
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.audit.card_facts import Card
from hmsa_label.stores.audit.summary import Summary

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
COLUMNS = {  # manifest columns that a user of the labels looks at -> Croissant data type
    "key": "sc:Text",
    "height": "sc:Integer",
    "width": "sc:Integer",
    "segment": "sc:Text",
    "row": "sc:Integer",
    "label_sha256": "sc:Text",
    "source": "sc:Text",
    "source_sha256": "sc:Text",
    "threshold": "sc:Float",
    "rule": "sc:Text",
    "kept_share": "sc:Float",
    "mean_confidence": "sc:Float",
    "coarse_agreement": "sc:Float",
    "run": "sc:Text",
}
PROTOCOL = (
    "Each pixel holds the trainId that a segmentation network finds most probable, or 255 where the rule keeps none: "
    "{rule}. {polygons}No person has looked at the labels."
)
IMPORTED = (
    "The labels were made elsewhere and imported ({stated}). Each pixel holds their trainId, or 255 where the rule "
    "keeps none: {rule}. {polygons}"
)
POLYGONS = "Where the rule says so, polygons drawn by hand count over it or fill what it leaves. "


def render_croissant(facts: Card) -> dict[str, Any]:
    """A version's facts (see `card`) as a Croissant JSON-LD document."""
    made = facts.time
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"hmsa-label-{facts.uuid[:8]}-v{facts.version}",
        "description": f"Semantic segmentation labels of {counted(facts.summary.images, 'image')}, "
        + ("made elsewhere and imported." if facts.is_imported else "made by a network."),
        "url": facts.store,
        "version": f"{facts.version}.0.0",
        "identifier": f"sha256:{facts.digest}",
        "dateCreated": made,
        "datePublished": made,
        "license": "The terms of the images that the labels were made from; see prov:wasDerivedFrom.",
        "keywords": [
            "semantic segmentation",
            "imported labels" if facts.is_imported else "automatic labels",
            *(c.name for c in facts.classes if c.images),
        ],
        "rai:dataAnnotationProtocol": _protocol(facts),
        "rai:machineAnnotationTools": [_tool(settings) for settings in facts.settings],
        "rai:dataAnnotationAnalysis": _analysis(facts.summary),
        "prov:wasDerivedFrom": [
            {"name": f"{data.get('dataset')}, split {data.get('split')}", "url": data.get("root")}
            for data in facts.sources
        ],
        "prov:wasGeneratedBy": [{"identifier": run["run"], "name": run["kind"]} for run in facts.runs],
        "distribution": _files(facts.store, facts.digest),
        "recordSet": [_labels()],
    }


def _tool(settings: dict[str, Any]) -> str:
    chosen = ", ".join(f"{name} {value}" for name, value in sorted(settings.items()) if name != "classes")
    return f"hmsa-label: {chosen}"


def _protocol(facts: Card) -> str:
    rule = rule_text(facts.threshold, facts.rule) or "not known"
    spoke = any(share for name, share in facts.summary.origin_share.items() if name != "teacher")
    polygons = POLYGONS if spoke else ""
    if not facts.is_imported:
        return PROTOCOL.format(rule=rule, polygons=polygons)
    told = [(run.get("teacher") or {}).get("imported") or {} for run in facts.runs]
    stated = {f"{one.get('labels')}, {one.get('made_by') or 'by whom is not stated'}" for one in told if one}
    return IMPORTED.format(stated="; ".join(sorted(stated)), rule=rule, polygons=polygons).strip()


def _analysis(summary: Summary) -> str:
    agreement, origins = _told(summary.coarse_agreement), summary.origin_share.items()
    lines = [f"{_told(summary.kept_share or 0)} of the pixels have a class; agreement with coarse labels: {agreement}"]
    lines.append("said by: " + ", ".join(f"{name} {_told(share)}" for name, share in origins if share))
    per_class = {
        "kept of the pixels predicted as each class": summary.class_kept_share,
        "agreement with the polygons of each class": summary.class_polygon_agreement or {},
    }
    for what, shares in per_class.items():
        if told := ", ".join(f"{name} {_told(share)}" for name, share in shares.items() if share is not None):
            lines.append(f"{what}: {told}")
    return "; ".join(lines)


def _told(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.2f} %"


def _files(store: str, digest: str) -> list[dict[str, Any]]:
    """The store as one object whose digest is the version's content digest, and its Parquet files."""
    return [
        {
            "@type": "cr:FileObject",
            "@id": "store",
            "name": "store",
            "description": "Zarr v3 group; the sha256 is the content digest of the version.",
            "contentUrl": store,
            "encodingFormat": "application/vnd.zarr; version=3",
            "sha256": digest,
        },
        {
            "@type": "cr:FileSet",
            "@id": "manifest",
            "name": "manifest",
            "description": "Delta table with one row per image; its log says which files a version has.",
            "containedIn": {"@id": "store"},
            "encodingFormat": "application/vnd.apache.parquet",
            "includes": "manifest/*.parquet",
        },
    ]


def _labels() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "Pixels of a row: data/<segment>/<height>x<width>/label[row], uint8 trainIds, 255 ignored.",
        "key": {"@id": "labels/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"labels/{name}",
                "name": f"labels/{name}",
                "dataType": kind,
                "source": {"fileSet": {"@id": "manifest"}, "extract": {"column": name}},
            }
            for name, kind in COLUMNS.items()
        ],
    }
