"""The frame and look of all pages: one file, light or dark as the reader's system is; no scripts, no requests."""

from collections.abc import Iterable, Mapping
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c1d21; --quiet: #5b5f68; --paper: #fbfbf9; --card: #fff; --line: #dcdcd6;
  --bar: #3b6ea8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9e6; --quiet: #a0a4ad; --paper: #16171a; --card: #1f2125; --line: #34373d; --bar: #6f9fd4; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem clamp(0.9rem, 3vw, 2.5rem) 3rem; max-width: 100rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.4rem 0 1.2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.7rem; }
h3 { font: 600 0.9rem/1.4 ui-monospace, Menlo, Consolas, monospace; margin: 0; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); font-size: 0.9rem; margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.7rem; margin: 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 0.8rem; }
.facts dt { color: var(--quiet); font-size: 0.82rem; }
.facts dd { margin: 0; font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }
.facts .wide { grid-column: 1 / -1; }
.facts .wide dd { font-size: 0.9rem; font-weight: 400; font-family: ui-monospace, Menlo, Consolas, monospace; }
table { border-collapse: collapse; width: 100%; max-width: 46rem; }
th, td { text-align: right; padding: 0.28rem 0.5rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 500; font-size: 0.85rem; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
td:has(.swatch) { white-space: nowrap; }
.reasons td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.bar { width: 26%; }
td.bar i { display: block; height: 0.6rem; min-width: 1px; border-radius: 2px; background: var(--bar); }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0 3rem; }
.swatch { display: inline-block; width: 0.95rem; height: 0.95rem; margin-right: 0.5rem; border-radius: 3px;
  vertical-align: -0.12rem; border: 1px solid var(--line); }
.hatch { background: repeating-linear-gradient(135deg, #121215 0 3px, #6e6e78 3px 4.5px); }
.note { margin-top: 0.7rem; }
.levels { display: grid; grid-template-columns: repeat(auto-fit, minmax(3.1rem, 1fr)); gap: 0.35rem 0; padding: 0;
  margin: 0.4rem 0 0; list-style: none; }
.levels li { font-size: 0.8rem; text-align: center; color: var(--quiet); }
.levels b { display: block; height: 1.1rem; }
.levels .kept { color: var(--ink); font-weight: 600; }
tr.kept td { font-weight: 700; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem;
  margin: 0.9rem 0; }
.pictures { display: grid; gap: 0.6rem; margin-top: 0.6rem;
  grid-template-columns: repeat(var(--columns), 1fr); }
@media (max-width: 64rem) { .pictures { --columns: 2 !important; } }
@media (max-width: 36rem) { .pictures { --columns: 1 !important; } }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { color: var(--quiet); font-size: 0.82rem; margin-top: 0.2rem; }
@media (max-width: 30rem) { td.bar, th.bar { display: none; } th, td { padding: 0.28rem 0.25rem; }
  .facts { grid-template-columns: 1fr 1fr; } }
"""


def document(title: str, style: str, parts: Iterable[str]) -> str:
    """A whole page; empty parts are left out.

    Args:
        title: plain text. style: CSS. parts: HTML in which everything that comes from outside is escaped.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def tiles(facts: Mapping[str, str], wide: Mapping[str, str]) -> str:
    """Short facts as tiles, and long ones, such as paths and digests, as full lines below them."""
    short = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    lines = "".join(
        f'<div class="wide"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in wide.items()
    )
    return f'<dl class="facts">{short}{lines}</dl>'
