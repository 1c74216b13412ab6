"""The report says what it was given, shows every picture, asks nothing from anywhere, and escapes what it shows."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from hmsa_label.pipeline.records import U8, Failure
from hmsa_label.pipeline.report.pictures import (
    HATCH,
    Report,
    ReportImage,
    confidence_picture,
    label_picture,
    level_colors,
    overlay_picture,
    write_report,
)

NAMES = ("road", "sky", "car")
COLORS = ((128, 64, 128), (70, 130, 180), (0, 0, 142))
LABEL: U8 = np.array([[0, 1, 255, 254], [2, 2, 255, 0]], np.uint8)


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("src", "href") if name in given]
        self.images += [given] if tag == "img" else []
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []


def report(**changes: object) -> Report:
    image = np.full((2, 4, 3), 90, np.uint8)
    shown = ReportImage(
        key="val/a_0", image=image, label=LABEL, coarse=LABEL, code=np.minimum(LABEL, 2), grid=(0.5, 0.9), note="kept"
    )
    given: dict[str, object] = {
        "title": "a title", "facts": [("images", "24")], "names": NAMES, "colors": COLORS, "class_px": [5, 0, 9],
        "threshold": 0.9, "iou": {"road": 0.75}, "images": [shown],
    }  # fmt: skip
    return Report(**{**given, **changes})  # type: ignore[arg-type]


def written(folder: Path, **changes: object) -> tuple[str, Page]:
    text = write_report(folder / "deep" / "report", report(**changes)).read_text("utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    text, page = written(tmp_path)
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not re.search(r"https?:|@import|url\(|<script", text)
    assert [path.name for path in (tmp_path / "deep" / "report").iterdir()] == ["index.html"]


def test_facts_classes_and_pictures_are_shown(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    assert page.words[page.words.index("images") :][:2] == ["images", "24"]
    assert page.words[page.words.index("car") :][:3] == ["car", "9", "64.29 %"]
    assert page.words[page.words.index("road") :][:4] == ["road", "5", "35.71 %", "0.750"]
    assert page.words.index("car") < page.words.index("road")
    assert [image["alt"] for image in page.images] == [
        f"{what} of val/a_0" for what in ("Image", "Coarse polygons", "Auto label", "Confidence")
    ]


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>&"
    image = ReportImage(key=bad, image=np.zeros((2, 4, 3), np.uint8), label=LABEL, note=bad)
    text, page = written(tmp_path, title=bad, facts=[(bad, bad)], images=[image], failed=[Failure(key=bad, reason=bad)])
    assert "<script>" not in text
    assert page.words.count(bad) == 8


def test_failed_images_are_named_with_their_reason(tmp_path: Path) -> None:
    _, page = written(tmp_path, failed=[Failure(key="val/b", reason="the file is empty")])
    assert page.words[page.words.index("val/b") :][:2] == ["val/b", "the file is empty"]


def test_page_without_evidence_or_coarse_labels_has_two_pictures_and_no_levels(tmp_path: Path) -> None:
    image = ReportImage(key="a", image=np.zeros((2, 4, 3), np.uint8), label=LABEL)
    text, page = written(tmp_path, images=[image])
    assert len(page.images) == 2
    assert "Confidence" not in page.words
    assert "--columns: 2" in text


def test_legend_names_every_level_and_marks_the_kept_ones(tmp_path: Path) -> None:
    text, page = written(tmp_path)
    assert [word for word in page.words if word in ("below 0.5", "0.5", "0.9")] == ["below 0.5", "0.5", "0.9"]
    assert re.findall(r'<li class="(\w+)">', text) == ["left", "left", "kept"]


def test_label_picture_holds_class_colors_and_hatches_everything_else() -> None:
    picture = label_picture(LABEL, COLORS)
    assert picture.dtype == np.uint8
    for row, column in zip(*np.nonzero(LABEL < 3), strict=True):
        assert tuple(picture[row, column]) == COLORS[LABEL[row, column]]
    ignored = label_picture(np.full((20, 20), 255, np.uint8), COLORS)
    assert {tuple(color) for color in ignored.reshape(-1, 3).tolist()} == set(HATCH)


def test_overlay_leaves_the_image_gray_where_there_is_no_polygon() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 0] = 240
    over = overlay_picture(image, LABEL, COLORS).astype(int)
    inside = LABEL < 3
    assert np.abs(over[inside] - (0.35 * image[inside] + 0.65 * np.array(COLORS)[LABEL[inside]])).max() <= 1
    assert (over[~inside] == (104, 44, 44)).all()


def test_confidence_colors_grow_lighter_with_the_level() -> None:
    colors = level_colors(12)
    assert colors.shape == (13, 3)
    lightness = cv2.cvtColor(colors[None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) > 0).all()
    np.testing.assert_array_equal(confidence_picture(np.array([[0, 12]], np.uint8), 12), colors[[0, 12]][None])


def test_large_images_are_shrunk_and_labels_stay_pure(tmp_path: Path) -> None:
    label = (np.indices((64, 2048))[1] % 3).astype(np.uint8)
    image = ReportImage(key="a", image=np.zeros((64, 2048, 3), np.uint8), label=label)
    _, page = written(tmp_path, images=[image])
    data = base64.b64decode(str(page.images[1]["src"]).partition(",")[2])
    shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert shown.shape == (32, 1024, 3)
    assert {tuple(color) for color in np.unique(shown.reshape(-1, 3), axis=0).tolist()} == set(COLORS)


def test_arrays_that_do_not_fit_are_refused() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"a: label is \(4, 2\), its image \(2, 4\)"):
        ReportImage(key="a", image=image, label=LABEL.T)
    with pytest.raises(ValueError, match="a: a code of 255, but only 1 thresholds"):
        ReportImage(key="a", image=image, label=LABEL, code=LABEL, grid=(0.9,))
