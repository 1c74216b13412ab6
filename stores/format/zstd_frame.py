"""The header of a zstd frame (RFC 8878, section 3.1.1): what it says it holds, read before anything is decoded."""

MAGIC = b"\x28\xb5\x2f\xfd"
CHECKSUM_FLAG, SINGLE_SEGMENT_FLAG, CHECKSUM_BYTES = 0x04, 0x20, 4
DICTIONARY_ID_BYTES = (0, 1, 2, 4)
LARGE_SIZE_BYTES = {1: 2, 2: 4, 3: 8}
TWO_BYTE_OFFSET = 256  # a size in two bytes is counted from here


def content_bytes(frame: bytes) -> int | None:
    """The size that the frame says its content has; None if it is no zstd frame, or does not say.

    A frame may say anything: 32 kB decode to a gigabyte. Ours always say what they hold.
    """
    if frame[:4] != MAGIC or len(frame) < 5:
        return None
    flags = frame[4]
    single = bool(flags & SINGLE_SEGMENT_FLAG)
    width = LARGE_SIZE_BYTES.get(flags >> 6, 1 if single else 0)
    at = 5 + (0 if single else 1) + DICTIONARY_ID_BYTES[flags & 3]
    field = frame[at : at + width]
    if not width or len(field) < width:
        return None
    return int.from_bytes(field, "little") + (TWO_BYTE_OFFSET if width == 2 else 0)


def without_checksum(frame: bytes) -> bytes:
    """The same frame without its content checksum, which costs a third of decoding.

    Only for a frame whose bytes are known to be those that were written.
    """
    if frame[:4] != MAGIC or len(frame) < 5 or not frame[4] & CHECKSUM_FLAG:
        return frame
    return b"".join((MAGIC, bytes([frame[4] & ~CHECKSUM_FLAG]), memoryview(frame)[5:-CHECKSUM_BYTES]))
