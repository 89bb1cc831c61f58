"""Encodings are undone, whatever they are made of, and never beyond the limit."""

import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.bodies import GZIP_PIECE_BYTES, decompressed, gunzip
from collector.errors import PermanentError, TooLargeError

LIMIT = 2**20


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_members_follow_each_other(parts):
    assert gunzip(b"".join(map(gzip.compress, parts)), LIMIT) == b"".join(parts)


@pytest.mark.parametrize("size", [GZIP_PIECE_BYTES - 1, GZIP_PIECE_BYTES, 3 * GZIP_PIECE_BYTES + 5])
def test_a_member_longer_than_a_piece_is_whole(size):
    plain = bytes(number * number % 251 for number in range(size))
    stored = gzip.compress(plain, 0)
    assert gunzip(stored + stored, LIMIT) == plain + plain
    with pytest.raises(PermanentError, match="too early"):
        gunzip(stored + stored[:-1], LIMIT)


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
