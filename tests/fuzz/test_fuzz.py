"""Whatever is damaged in a file that comes from outside, the package answers with an error of its own, soon and small.

Without a mark 50 inputs of each kind; `-m fuzz` runs 10,000, in pieces of 500.
"""

import pytest

from tests.fuzz.campaign import campaign

KINDS = ("images", "json_records", "yaml_settings", "checkpoints", "store_files", "panoptic_json", "imported_labels")
PIECES = [pytest.param(range(at, at + 500), id=f"from_{at}", marks=pytest.mark.fuzz) for at in range(0, 10_000, 500)]


@pytest.mark.parametrize("seeds", [pytest.param(range(50), id="first"), *PIECES])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_input_ends_in_an_error_of_the_package(kind: str, seeds: range) -> None:
    report = campaign(kind, seeds)
    print(report)
    assert report.inputs == len(seeds)
    assert not report.faults, str(report)
