"""Masks of rules: maps of pixels that have no label, kept once in a store under the digest of their pixels."""

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot, create_bytes, join, public_uri
from hmsa_label.stores.format.chunks import decode, digest_of, encode
from hmsa_label.stores.format.layout import MAX_PIXELS, U8, mask_path
from hmsa_label.stores.format.rule import MaskOf

BACK = "put it back from a copy of the store, or by `hmsa-label rethreshold --ego-mask FILE`"


def mask_of(mask: U8) -> MaskOf:
    """How a rule names a mask [H, W] uint8, whose pixels other than 0 have no label.

    Raises:
        ValueError: if it is no such map.
    """
    if mask.dtype != "uint8" or mask.ndim != 2 or not 0 < mask.size <= MAX_PIXELS:
        found = f"{mask.dtype} {list(mask.shape)}"
        raise ValueError(f"a mask is [H, W] uint8, of at most {MAX_PIXELS:,} pixels; got {found}")
    return MaskOf(digest_of(mask), *mask.shape)


def put_mask(root: FileRoot, mask: U8) -> MaskOf:
    """Keeps a mask [H, W] uint8 in a store, if it is not there yet.

    Raises:
        ValueError: if it is no mask.
    """
    named, (filesystem, path) = mask_of(mask), root.open()
    try:
        create_bytes(filesystem, join(path, mask_path(named.sha256)), encode(mask))
    except FileExistsError:
        read_mask(root, named)
    return named


def read_mask(root: FileRoot, named: MaskOf) -> U8:
    """[H, W] uint8 pixels of a mask.

    Raises:
        LabelMissing: if it is gone.
        LabelCorrupt: if it is not what was written.
    """
    path = mask_path(named.sha256)
    try:
        mask = decode(root.read(path), named.height, named.width)
    except FileNotFoundError:
        raise LabelMissing(
            f"the mask of the rule is gone: no object {path} in {public_uri(root.uri)}; {BACK}"
        ) from None
    except LabelCorrupt as error:
        raise LabelCorrupt(f"the mask of the rule is damaged: {path}: {error}; delete it, and {BACK}") from None
    if digest_of(mask) != named.sha256:
        raise LabelCorrupt(f"the mask of the rule is damaged: {path} holds other pixels; delete it, and {BACK}")
    return mask
