"""Encodings are undone, whatever they are made of, and never beyond the limit."""

import gzip
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.bodies import decompressed
from collector.content_encodings import DECODERS, MEMBERS_LIMIT, PIECE_BYTES, gunzip, zstd
from collector.errors import PermanentError, TooLargeError

LIMIT = 2**20


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_members_follow_each_other(parts):
    assert gunzip(b"".join(map(gzip.compress, parts)), LIMIT) == b"".join(parts)


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5])
def test_a_member_longer_than_a_piece_is_whole(size):
    plain = bytes(number * number % 251 for number in range(size))
    stored = gzip.compress(plain, 0)
    assert gunzip(stored + stored, 4 * LIMIT) == plain + plain
    with pytest.raises(PermanentError, match="too early"):
        gunzip(stored + stored[:-1], 4 * LIMIT)


def test_the_limit_holds_over_all_members():
    member = gzip.compress(bytes(LIMIT // 2))
    assert len(decompressed(member * 2, "gzip", LIMIT)) == LIMIT
    with pytest.raises(TooLargeError):
        decompressed(member * 2 + gzip.compress(b"1"), "gzip", LIMIT)


def test_four_times_as_many_empty_members_take_about_four_times_as_long():
    def seconds(count):
        body = gzip.compress(b"") * count
        started = time.process_time()
        assert gunzip(body, LIMIT) == b""
        return time.process_time() - started

    assert min(seconds(80_000) for _ in range(2)) < 9 * min(seconds(20_000) for _ in range(3))


def bare_deflate(content):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


PACKERS = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("zstd", lambda content: zstd().compress(content)),
]


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
def test_every_encoding_gives_back_what_was_packed_and_nothing_that_breaks_off(encoding, pack):
    plain = bytes(number * number % 251 for number in range(300_000))
    packed = pack(plain)
    assert decompressed(packed, encoding, LIMIT) == plain
    for cut in (1, 7, len(packed) // 2):
        with pytest.raises(PermanentError):
            decompressed(packed[:-cut], encoding, LIMIT)
    with pytest.raises(PermanentError):
        decompressed(b"not packed at all", encoding, LIMIT)


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
def test_a_bomb_is_refused_before_it_inflates(encoding, pack):
    bomb = pack(bytes(64 * LIMIT))
    assert len(DECODERS[encoding](bomb, LIMIT)) == LIMIT + 1, "not a byte more than what tells that it is too much"
    with pytest.raises(TooLargeError):
        decompressed(bomb, encoding, LIMIT)


def test_a_body_of_absurdly_many_members_is_refused():
    with pytest.raises(PermanentError, match="members"):
        gunzip(gzip.compress(b"") * (MEMBERS_LIMIT + 1), LIMIT)


def test_a_window_larger_than_http_allows_is_refused():
    options = {zstd().CompressionParameter.window_log: 27, zstd().CompressionParameter.content_size_flag: 0}
    packer = zstd().ZstdCompressor(options=options)
    with pytest.raises(PermanentError, match="not zstd"):
        decompressed(packer.compress(bytes(100)) + packer.flush(), "zstd", LIMIT)
