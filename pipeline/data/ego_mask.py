"""The mask of what every image shows of the recording vehicle itself, such as its hood: pixels that get no label."""

from dataclasses import dataclass

from hmsa_label.pipeline.data.decode import PNG_SIGNATURE, BadImage, decode_image
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.rule_values import OFF
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes
from hmsa_label.stores.format.masks import mask_of
from hmsa_label.stores.format.rule import MaskOf
from hmsa_label.stores.location import Location


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoMask:
    """A mask as it was read.

    Attributes:
        pixels: [H, W] uint8, 1 where images show the vehicle, else 0. of: how a rule names it.
    """

    pixels: U8
    of: MaskOf


def read_ego_mask(place: Location) -> EgoMask:
    """The mask in a PNG file of any color type: all pixels that are not black.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no PNG, or it leaves out no pixel, or every one.
    """
    filesystem, path = open_filesystem(place)
    name = f"--ego-mask {public_uri(place)}"
    if not filesystem.isfile(path):
        raise FileNotFoundError(f"{name}: there is no such file")
    data = read_bytes(filesystem, path)
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError(f"{name} is no PNG file, and other formats do not keep exact pixels")
    try:
        pixels = decode_image(data).any(axis=2).astype("uint8")
    except BadImage as error:
        raise ValueError(f"{name}: {error}") from None
    if pixels.all() or not pixels.any():
        said = (
            "every pixel is 0, so it would leave out nothing"
            if not pixels.any()
            else "no pixel is 0, so nothing would be left"
        )
        raise ValueError(f"{name}: {said}; pixels of the vehicle must differ from 0, all others must be 0")
    return EgoMask(pixels=pixels, of=mask_of(pixels))


def ego_mask_of(asked: RuleConfig) -> EgoMask | None:
    """The mask of a rule that is asked for; None if it gives no file.

    Raises:
        FileNotFoundError, ValueError: as `read_ego_mask`.
    """
    return None if asked.ego_mask in (None, OFF) else read_ego_mask(str(asked.ego_mask))
