"""Content encodings of bodies: gzip (igzip), zstd and deflate, none ever unpacked beyond a limit. Pure."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any

from collector.errors import PermanentError, TooLargeError

PIECE_BYTES, SMALL_PIECE_BYTES = 256 * 1024, 1024
MEMBERS_LIMIT = 100_000
"""Gzip members or zstd frames of one body."""
ZSTD_WINDOW_LOG = 23
"""8 MiB, as RFC 9659 has it for HTTP."""
ENCODINGS = ("identity", "gzip", "deflate", "zstd")
"""What `content-encoding` may be."""
OTHERS = "use gzip, deflate, zstd or none"


def igzip() -> Any:
    """Return igzip, which is four times as fast as zlib, or zlib where the machine has no igzip."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def too_large(limit_bytes: int) -> TooLargeError:
    """Say that a body is over the limit."""
    return TooLargeError(
        f"the body has over {limit_bytes} bytes; send smaller batches or raise collector.max_body_bytes"
    )


def gunzip(body: bytes, limit_bytes: int) -> bytes:
    """Decompress one or more gzip members, up to one byte over the limit.

    Raises:
        PermanentError: it is no gzip, or ends too early.
    """
    return inflate(body, limit_bytes, lambda: igzip().decompressobj(wbits=16 + zlib.MAX_WBITS), "gzip", members=True)


def undeflate(body: bytes, limit_bytes: int) -> bytes:
    """Decompress `deflate`: zlib's format, or the bare one that some clients send by that name.

    Raises:
        PermanentError: it is neither, or ends too early.
    """
    bare = not (len(body) > 1 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0)
    window = -zlib.MAX_WBITS if bare else zlib.MAX_WBITS
    return inflate(body, limit_bytes, lambda: igzip().decompressobj(wbits=window), "deflate", members=False)


def unzstd(body: bytes, limit_bytes: int) -> bytes:
    """Decompress one or more zstd frames, up to one byte over the limit; windows are those that HTTP allows.

    Raises:
        PermanentError: it is no zstd, or ends too early.
    """
    options = {zstd().DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return inflate(body, limit_bytes, lambda: zstd().ZstdDecompressor(options=options), "zstd", members=True)


def zstd() -> Any:
    """Return the standard library's zstd (Python 3.14), or the same from PyPI."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module


def inflate(body: bytes, limit_bytes: int, decoder: Callable[[], Any], name: str, *, members: bool) -> bytes:
    """Decompress up to one byte over the limit; never more than that is unpacked."""
    parts: list[bytes] = []
    size = start = count = 0
    piece_bytes = PIECE_BYTES
    try:
        while start < len(body):
            member = decoder()
            count += 1
            while not member.eof and start < len(body):
                piece = body[start : start + piece_bytes] if len(body) > PIECE_BYTES or start else body
                parts.append(member.decompress(piece, limit_bytes + 1 - size))
                size += len(parts[-1])
                if size > limit_bytes:
                    return b"".join(parts)
                start += len(piece) - len(member.unused_data)
                piece_bytes = min(PIECE_BYTES, 2 * piece_bytes)
            if not member.eof:
                raise PermanentError(f"the {name} body ends too early")
            if start < len(body) and (not members or count >= MEMBERS_LIMIT):
                raise PermanentError(f"the {name} body goes on behind its end, or has over {MEMBERS_LIMIT} members")
            # What is left over behind a member is copied, so a body of many small ones is fed in small pieces.
            piece_bytes = SMALL_PIECE_BYTES
    except DECODER_ERRORS as error:
        raise PermanentError(f"the body is not {name}: {error}") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decoder_errors() -> tuple[type[Exception], ...]:
    """Return what the decoders raise for bytes that are not theirs."""
    return (zlib.error, igzip().error, zstd().ZstdError, EOFError, ValueError)


DECODER_ERRORS = decoder_errors()
DECODERS: dict[str, Callable[[bytes, int], bytes]] = {"gzip": gunzip, "deflate": undeflate, "zstd": unzstd}
