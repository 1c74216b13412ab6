"""How the documents are built: `make docs`. Nothing is fetched, neither while building nor while reading."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "hmsa-label"
author = "the authors of hmsa-label"
release = version = version_of("hmsa-label")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "command_reference",
    "python_reference",
    "repository_links",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes alone; quotes stay as they are typed

# Docstrings are written with `single backticks`, for readers of the source.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # an attribute of several classes, named in the docstring of one

html_theme = "furo"
html_title = "hmsa-label"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["hmsa_label.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f5c", "color-brand-content": "#1f6f5c"},
    "dark_css_variables": {"color-brand-primary": "#6cc3ab", "color-brand-content": "#6cc3ab"},
}
