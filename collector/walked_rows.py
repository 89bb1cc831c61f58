"""Rows as the walker leaves them, cells of 64 bits and numbered texts, and the Arrow tables that they become."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.attribute_values import as_text, plain_value
from collector.table_contracts import table_contracts
from collector.walker import known
from collector.walker.known import DOUBLE, FIRST_SPECIAL, NULL

if TYPE_CHECKING:
    from collector.walker.tables import Tables

Numbers = npt.NDArray[np.int64]


@dataclass(slots=True)
class Epoch:
    """The texts and names that numbers in rows stand for. `tables` only ever grows; what is numbered stays."""

    tables: Tables
    """Names and texts."""
    _specials: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def texts(self, highest: int, lowest: int) -> tuple[pa.Array, int]:
        """Return all texts up to a number, behind them the special ones down to a number, and where those begin."""
        count = highest + 1
        plain = strings(self.tables.parts["text_starts"], self.tables.parts["text_bytes"], count)
        if lowest > FIRST_SPECIAL:
            return plain, count
        return pa.concat_arrays([plain, pa.array(self._written(FIRST_SPECIAL - lowest + 1), pa.string())]), count

    def names(self, highest: int) -> pa.Array:
        """Return the names up to a number."""
        return strings(self.tables.parts["key_starts"], self.tables.parts["key_bytes"], highest + 1)

    def _written(self, count: int) -> list[str]:
        """Write out special texts, each once."""
        with self._lock:
            for number in range(len(self._specials), count):
                self._specials.append(self._write(number))
            return self._specials[:count]

    def _write(self, number: int) -> str:
        parts = self.tables.parts
        if parts["special_kinds"][number] == DOUBLE:
            return repr(float(parts["special_bits"][number : number + 1].view(np.float64)[0]))
        from opentelemetry.proto.common.v1.common_pb2 import ArrayValue

        array = ArrayValue()
        start, end = parts["special_starts"][number : number + 2]
        array.ParseFromString(parts["special_bytes"][start:end].tobytes())
        return as_text([plain_value(item) for item in array.values])


def strings(starts: npt.NDArray[np.int32], content: npt.NDArray[np.uint8], count: int) -> pa.Array:
    """Return the first strings of a table as Arrow, without a copy."""
    return pa.StringArray.from_buffers(count, pa.py_buffer(starts[: count + 1]), pa.py_buffer(content))


@dataclass(frozen=True, slots=True)
class WalkedRows:
    """Rows of one table, of one body or of several of one epoch."""

    table: str
    """requests or spans."""
    epoch: Epoch
    """What the numbers stand for."""
    cells: Numbers
    """One row a span; columns as `walker.known` has them, the last one counts the row's pairs."""
    ids: npt.NDArray[np.uint8]
    """The ids of each row in hex."""
    pairs: npt.NDArray[np.int32]
    """Name and text of what the rows keep in `attributes`, row after row."""

    @property
    def held_bytes(self) -> int:
        """How much memory they take."""
        return int(self.cells.nbytes + self.ids.nbytes + self.pairs.nbytes)

    def build(self) -> pa.Table:
        """Return the rows as Arrow, their texts dictionary-encoded."""
        return BUILDERS[self.table](self)


def joined(rows: Iterable[WalkedRows]) -> list[WalkedRows]:
    """Put rows of one table and one epoch together."""
    parts: dict[tuple[str, int], list[WalkedRows]] = {}
    for one in rows:
        parts.setdefault((one.table, id(one.epoch)), []).append(one)
    return [part[0] if len(part) == 1 else join(part) for part in parts.values()]


def join(part: Sequence[WalkedRows]) -> WalkedRows:
    """Put rows of one table and one epoch together."""
    return WalkedRows(
        part[0].table,
        part[0].epoch,
        np.concatenate([one.cells for one in part]),
        np.concatenate([one.ids for one in part]),
        np.concatenate([one.pairs for one in part]),
    )


def plain(rows: pa.Table) -> pa.Table:
    """Return rows with the table's own types: no dictionaries."""
    columns, fields = [], []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        columns.append(column)
        fields.append(pa.field(name, column.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def ids_column(
    ids: npt.NDArray[np.uint8], start: int, length: int, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return hex digits as strings."""
    count = len(ids)
    offsets = np.arange(0, (count + 1) * length, length, dtype=np.int32)
    content = np.ascontiguousarray(ids[:, start : start + length])
    mask = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(content), mask)


class CellColumns:
    """Columns of cells, as Arrow arrays."""

    def __init__(self, rows: WalkedRows, text_columns: Sequence[int]) -> None:
        self._cells = rows.cells
        texts = rows.cells[:, list(text_columns)]
        self._pairs = rows.pairs
        values = rows.pairs[:, 1]
        highest = max(int(texts.max(initial=0)), int(values.max(initial=0)))
        lowest = min(int(texts.min(initial=0)), int(values.min(initial=0)))
        self._dictionary, self._special_start = rows.epoch.texts(highest, lowest)
        self._names = rows.epoch.names(int(rows.pairs[:, 0].max(initial=0)))
        self._has_special = lowest <= FIRST_SPECIAL

    def of(self, column: int, arrow_type: pa.DataType) -> pa.Array:
        """Return one column of numbers, times or booleans."""
        values = np.ascontiguousarray(self._cells[:, column])
        valid = values != NULL
        if pa.types.is_boolean(arrow_type):
            content = pa.py_buffer(np.packbits(values == 1, bitorder="little"))
        elif pa.types.is_int32(arrow_type):
            content = pa.py_buffer(values.astype(np.int32))
        else:
            content = pa.py_buffer(values)
        return pa.Array.from_buffers(arrow_type, len(values), [bits(valid), content])

    def texts(self, column: int) -> pa.Array:
        """Return one column of texts."""
        return self._encoded(self._cells[:, column], self._dictionary)

    def pairs(self, column: int) -> pa.Array:
        """Return the attributes as a map; `column` counts them."""
        offsets = np.zeros(len(self._cells) + 1, np.int32)
        np.cumsum(self._cells[:, column], out=offsets[1:])
        names = pa.DictionaryArray.from_arrays(pa.array(np.ascontiguousarray(self._pairs[:, 0])), self._names)
        values = self._encoded(self._pairs[:, 1], self._dictionary).dictionary_decode()
        # Not encoded: the rules on attributes read plain maps.
        return pa.MapArray.from_arrays(pa.array(offsets), names.dictionary_decode(), values)

    def _encoded(self, numbers: npt.NDArray[Any], dictionary: pa.Array) -> pa.Array:
        valid = numbers != NULL
        codes = numbers.astype(np.int32)
        if self._has_special:
            special = codes <= FIRST_SPECIAL
            codes[special] = self._special_start + (FIRST_SPECIAL - codes[special])
        indices = pa.Array.from_buffers(pa.int32(), len(codes), [bits(valid), pa.py_buffer(codes)])
        return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)


def bits(valid: npt.NDArray[np.bool_]) -> pa.Buffer | None:
    """Return a validity bitmap; None where all is valid."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def build_requests(rows: WalkedRows) -> pa.Table:
    """Return rows of `requests`."""
    schema = table_contracts()["requests"].schema
    text_columns = [place for name, place in known.COLUMN_PLACES.items() if pa.types.is_string(schema.field(name).type)]
    cells = CellColumns(rows, text_columns)
    columns = {"trace_id": ids_column(rows.ids, 0, 32), "span_id": ids_column(rows.ids, 32, 16)}
    times = {"started_at": known.STARTED, "ended_at": known.ENDED, "received_at": known.RECEIVED}
    for name, place in (times | known.COLUMN_PLACES).items():
        of_type = schema.field(name).type
        columns[name] = cells.texts(place) if pa.types.is_string(of_type) else cells.of(place, of_type)
    columns["attributes"] = cells.pairs(known.PAIRS_COUNT)
    return pa.table(columns)


SPAN_TEXTS = {
    "name": known.NAME, "kind": known.KIND, "service": known.SERVICE, "scope": known.SCOPE, "status": known.STATUS,
    "status_message": known.STATUS_MESSAGE, "replica": known.SPAN_REPLICA,
}  # fmt: skip


def build_spans(rows: WalkedRows) -> pa.Table:
    """Return rows of `spans`."""
    cells = CellColumns(rows, list(SPAN_TEXTS.values()))
    schema = table_contracts()["spans"].schema
    columns = {
        "trace_id": ids_column(rows.ids, 0, 32),
        "span_id": ids_column(rows.ids, 32, 16),
        "parent_span_id": ids_column(rows.ids, 48, 16, rows.cells[:, known.HAS_PARENT] != NULL),
    }
    times = {"started_at": known.STARTED, "ended_at": known.ENDED, "received_at": known.RECEIVED}
    for name, place in (times | {"duration_seconds": known.DURATION}).items():
        columns[name] = cells.of(place, schema.field(name).type)
    for name, place in SPAN_TEXTS.items():
        columns[name] = cells.texts(place)
    columns["attributes"] = cells.pairs(known.SPAN_PAIRS_COUNT)
    return pa.table(columns)


BUILDERS: dict[str, Callable[[WalkedRows], pa.Table]] = {"requests": build_requests, "spans": build_spans}
