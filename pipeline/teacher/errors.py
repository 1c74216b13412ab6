"""Images that a teacher cannot label, as the pipeline tells of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from hmsa_label.labelers.base import CannotLabel, NotFinite
from hmsa_label.stores.images.source import BadImage


class NonFiniteLogits(BadImage):
    """The network gave NaN or infinite numbers for this image; the text names the precision and the next step."""


@contextmanager
def images_to_blame() -> Iterator[None]:
    """Turns what a labeler says of an image into what the pipeline says of it."""
    try:
        yield
    except NotFinite as error:
        raise NonFiniteLogits(str(error)) from error
    except CannotLabel as error:
        raise BadImage(str(error)) from error
