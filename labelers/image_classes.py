"""The classes of whole images, as folders name them; of pixels they are a `ClassTable`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImageClasses:
    """Names of the classes; an image's label is the place of its class among them.

    Raises:
        ValueError: fewer than two, or a name comes twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ValueError(f"there must be two classes or more, all of other names; got {self.names!r:.80}")

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """As checkpoints hold it."""
        return {"names": list(self.names)}

    @classmethod
    def from_dict(cls, data: Any) -> "ImageClasses":
        """What `to_dict` wrote.

        Raises:
            ValueError: it did not write this.
        """
        names = data.get("names") if isinstance(data, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"image classes must be an object with a list of names; got {data!r:.80}")
        return cls(tuple(names))
