"""Rows are written for the chain in one form, whether one by one or by columns."""

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from analytics.ledger_chain import canonical, canonical_rows, chained, follow

texts = (
    st.none() | st.text(max_size=6) | st.sampled_from(['a"b', "a\\b", "\n", "\x7f", "ü", "\u2028", "", "null", "{}"])
)
rows = st.lists(
    st.tuples(texts, texts, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.dates()), max_size=6
)


@given(rows=rows)
def test_columns_are_written_as_rows_are(rows):
    rows = [(one, other, number, day) for one, other, number, day in rows if not surrogates(one, other)]
    schema = {"one": pl.String, "other": pl.String, "number": pl.Int64, "day": pl.Date}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    assert list(canonical_rows(frame)) == [canonical(row) for row in rows]


def surrogates(*texts):
    return any("\ud800" <= character <= "\udfff" for text in texts if text for character in text)


def test_the_form_is_that_of_the_documentation():
    day = date(2026, 11, 3)
    assert canonical(["1-1", None, day, "r\tü", -5]) == '["1-1",null,"2026-11-03","r\\tü",-5]'.encode()
    row = {"a": "x", "b": 2}
    assert chained("0" * 64, row, ("a", "b")) == follow("0" * 64, b'["x",2]')
