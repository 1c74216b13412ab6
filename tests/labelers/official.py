"""The scripts that Cityscapes publishes, for tests that compare with them."""

import importlib
import warnings

import pytest


def official_module(name):
    """A module of cityscapesscripts' evaluation; the test skips where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what NumPy and Python deprecate
        pytest.importorskip("cityscapesscripts", reason="needs cityscapesscripts, which the extra 'test' installs")
        return importlib.import_module(f"cityscapesscripts.evaluation.{name}")
