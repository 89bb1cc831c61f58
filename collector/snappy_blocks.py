"""Snappy's block format, as remote write uses it: undone only once its stated length is in bounds. Pure."""

from __future__ import annotations

from collector.errors import PermanentError, TooLargeError


def unsnapped(body: bytes, max_body_bytes: int) -> bytes:
    """Decompress one block.

    Raises:
        PermanentError: the bytes are no snappy block.
        TooLargeError: it would be over the limit.
    """
    import cramjam

    length = stated_length(body)
    if length > max_body_bytes:
        raise TooLargeError(
            f"the body has {length} bytes once decompressed; send smaller batches or raise collector.max_body_bytes"
        )
    try:
        plain = bytes(cramjam.snappy.decompress_raw(body)) if length else b""
    except (cramjam.DecompressionError, ValueError) as error:
        raise PermanentError(f"the body is not snappy (block format): {error}") from error
    if len(plain) != length:
        raise PermanentError(f"the snappy body states {length} bytes and holds {len(plain)}")
    return plain


def snapped(body: bytes) -> bytes:
    """Compress into one block."""
    import cramjam

    return bytes(cramjam.snappy.compress_raw(body))


def stated_length(body: bytes) -> int:
    """Return the length that a block states at its start.

    Raises:
        PermanentError: it states none.
    """
    length = 0
    for place, byte in enumerate(body[:5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return length
    raise PermanentError("the body is not snappy (block format): it does not begin with its length")
