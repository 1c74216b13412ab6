"""A short form of the damage campaign: no wrong pixels, all harm named, no error but the store's own."""

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def outcomes(monkeypatch: pytest.MonkeyPatch, folder: Path, **how: Any) -> list[str]:
    """What must not be among the outcomes, a line each."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from store_faults import campaign, describe

    found = campaign(str(folder), **how)
    assert len(found) == how["faults"]
    assert any(outcome.seen for outcome in found)
    return [describe(outcome) for outcome in found if outcome.bad]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """On a memory disk if there is one, as every write is flushed."""
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path


@pytest.mark.slow
def test_damage_of_every_kind_is_refused_or_harmless_and_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert outcomes(monkeypatch, folder, faults=6, seed=1, verbs=2) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_much_damage_of_every_kind_is_refused_or_harmless_and_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    assert outcomes(monkeypatch, folder, faults=300, seed=2, verbs=100) == []
