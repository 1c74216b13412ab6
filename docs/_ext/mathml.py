"""Formulas as MathML, which browsers draw by themselves: no script is loaded from anywhere."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

BRACE = '<mo rspace="0.17em">{</mo>'  # of cases: in the middle of a row it does not grow by itself
TALL_BRACE = '<mo form="prefix" stretchy="true" rspace="0.17em">{</mo>'


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_drawn(node.astext(), False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(_drawn(node.astext(), True))
    raise nodes.SkipNode


def _drawn(formula: str, as_block: bool) -> str:
    drawn: str = tex2mathml(formula, as_block=as_block)
    return drawn.replace(BRACE, TALL_BRACE)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
