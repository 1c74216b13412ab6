"""Draws `strip.jpg` from the page of a demo: `hmsa-label demo --output demo; python docs/pictures/strip.py demo`."""

import base64
import io
import re
import sys
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

FIGURE = re.compile(r'<img src="data:image/\w+;base64,([^"]+)"[^>]*>\s*<figcaption>([^<]+)</figcaption>')
GAP, LINE = 8, 30


def strip(page: Path, rows: tuple[int, ...]) -> Image.Image:
    """Chosen images of a demo's page, one below the other, each with its polygons, auto label and confidence."""
    articles = re.findall(r"<article>.*?</article>", page.read_text(), re.DOTALL)
    figures = [FIGURE.findall(articles[row]) for row in rows]
    pictures = [[Image.open(io.BytesIO(base64.b64decode(data))) for data, _ in row] for row in figures]
    width, height = pictures[0][0].size
    canvas = Image.new("RGB", (len(pictures[0]) * (width + GAP) - GAP, LINE + len(rows) * (height + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 18)
    for column, (_, caption) in enumerate(figures[0]):
        draw.text((column * (width + GAP), 2), caption.lower(), "#333", font)
    for place, row in enumerate(pictures):
        for column, picture in enumerate(row):
            canvas.paste(picture.convert("RGB"), (column * (width + GAP), LINE + place * (height + GAP)))
    return canvas


if __name__ == "__main__":
    drawn = strip(Path(sys.argv[1]) / "index.html", (0, 1))
    drawn.save(Path(__file__).with_name("strip.jpg"), quality=88)
