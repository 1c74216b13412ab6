"""The watch over damaged inputs sees what it is there for, and goes on after it."""

from tests.fuzz.campaign import campaign


def test_errors_crashes_and_growth_are_named_by_their_seed() -> None:
    report = campaign("misbehaving", [0, 1, 2, 4, 5], seconds=60, growth=30_000_000)
    assert report.inputs == 5
    assert list(report.faults) == [1, 2, 4]
    assert report.faults[1].startswith("KeyError: 'lost'")
    assert report.faults[2] == "the process ended with 3"
    assert report.faults[4].startswith("grew by ")
    assert "again: python -m tests.fuzz.campaign misbehaving 4" in str(report)


def test_an_input_without_end_is_named_by_its_seed() -> None:
    report = campaign("misbehaving", [3], seconds=0.2)
    assert report.faults == {3: "no end after 0.2 s"}
