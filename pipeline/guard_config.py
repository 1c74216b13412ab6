"""What is asked of the guard of classes; `label/guard.py` is the guard itself."""

from dataclasses import dataclass

from hmsa_label.stores.location import Location, keep_as_text

GUARD_OFF, GUARD_WARN, GUARD_STRICT = GUARDS = ("off", "warn", "strict")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What happens if a rule leaves next to nothing of a class that is there (`label/guard.py`).

    Attributes:
        mode: `warn`; `strict` ends with an error before the version is finished; `off`.
        against: path or URL of the JSON file of `calibrate`, to compare with beside the polygons of the images.
    """

    mode: str = GUARD_WARN
    against: Location | None = None

    def __post_init__(self) -> None:
        keep_as_text(self, "against")
        if self.mode not in GUARDS:
            raise ValueError(f"--guard must be one of {', '.join(GUARDS)}; got {self.mode!r}")
