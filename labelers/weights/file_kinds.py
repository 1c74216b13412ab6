"""What a weights file really holds, told from its bytes: the name of a download says little."""

import io
import json
import zipfile

SAFETENSORS, TORCH = "safetensors", "torch.save"
_LONGEST_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_LFS_POINTER = b"version https://git-lfs"
# first bytes -> what it is, and what to do
_OTHERS = (
    (_LFS_POINTER, "it is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"<?xml", "it is an XML document, most often the error of a storage server; download the file again"),
    (b"\x1f\x8b", "it is a gzip archive; unpack it first"),
    (b"BZh", "it is a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "it is an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive; unpack it first"),
    (b"Rar!", "it is a RAR archive; unpack it first"),
    (b"\x89HDF", "it is an HDF5 file (Keras?); only safetensors and torch.save files are read"),
    (b"GGUF", "it is a GGUF file; only safetensors and torch.save files are read"),
    (b"\x93NUMPY", "it is a NumPy array; only safetensors and torch.save files are read"),
    (b"\x89PNG", "it is a PNG image, not weights"),
    (b"\xff\xd8\xff", "it is a JPEG image, not weights"),
    (b"%PDF", "it is a PDF document, not weights"),
    (b"{", "is JSON text, not weights"),
)


def kind_of(data: bytes) -> str:
    """`safetensors` or `torch.save`.

    Raises:
        ValueError: neither, or cut short; says what the file is instead and what to do.
    """
    if _begins_as_safetensors(data):
        _check_length(data)
        return SAFETENSORS
    if data.startswith(b"PK\x03\x04"):
        _check_zip(data)
        return TORCH
    if len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5:  # a pickle, as torch wrote them before 1.6
        return TORCH
    raise ValueError(_what_else(data))


def _begins_as_safetensors(data: bytes) -> bool:
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LONGEST_HEADER_BYTES


def _check_length(data: bytes) -> None:
    """Holds that a safetensors file is as long as its header says; all else is for its own reader to refuse."""
    start = 8 + int.from_bytes(data[:8], "little")
    needed = start
    if len(data) >= start:
        try:
            header = json.loads(data[8:start])
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            needed += max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return
    if len(data) < needed:
        raise ValueError(_cut_short(len(data), f"at least {needed:,}"))


def _check_zip(data: bytes) -> None:
    """Holds that a zip file is whole and that torch.save wrote it.

    Compressed entries are refused: torch.save writes none, and a small file of them can fill any memory.
    """
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RecursionError):
        raise ValueError(_cut_short(len(data), "more")) from None
    names = [entry.filename for entry in entries]
    last_parts = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last_parts:
        raise ValueError("it is a TorchScript program; save its state dict with torch.save instead")
    if "data.pkl" not in last_parts:
        shown = ", ".join(names[:3]) or "nothing"
        raise ValueError(f"it is a zip archive that torch.save did not write (it holds {shown}); unpack it first")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is a compressed zip archive; torch.save writes none: save the state dict again")


def _cut_short(num_bytes: int, expected: str) -> str:
    return f"it is cut short: {num_bytes:,} bytes came, {expected} are needed; download or copy it again"


def _what_else(data: bytes) -> str:
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:9].lower() == b"<!doctype" or text[:5].lower() in (b"<html", b"<head"):
        return "it is a web page, not weights: most often the download needs a login; fetch the file itself"
    for first, what in _OTHERS:
        if text.startswith(first):
            return what
    if data[257:262] == b"ustar":
        return "it is a tar archive (torch before 0.4 wrote such files too); unpack it, or save the state dict again"
    return (
        f"it is neither a safetensors nor a torch.save file: it begins with {data[:8]!r} and has {len(data):,} bytes; "
        "was the download complete?"
    )
