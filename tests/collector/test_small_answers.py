"""An answer that was small is fetched another way the next time: the same rows, whatever their number is by then."""

from collections.abc import Iterator
from datetime import datetime

import duckdb
import pyarrow as pa
import pytest

from analytics.statements import FOLDER
from collector.errors import PermanentError
from collector.file_store import FileStore
from collector.small_answers import SMALL_ROWS, small_form, tree_of
from collector.sql_door import SqlDoor

SAID_ALIKE = [
    "SELECT 1",
    "SELECT 1;",
    "SELECT 1 ; ",
    "SELECT 1 -- a comment; with a semicolon",
    "SELECT 1 /* LIMIT 5 */",
    "SELECT 1 AS a, 2 AS a",
    "SELECT 'a;b' AS \"LIMIT 5\", [1, 2] AS l, {'x': 1} AS s, DATE '2026-01-01' AS d, 1.5::DECIMAL(9, 2) AS n",
    "SELECT TIMESTAMP '2026-01-01' AS t, NULL AS nothing, 'a'::BLOB AS b, INTERVAL 1 DAY AS i, true AS yes",
    "VALUES (3), (1), (2)",
    "FROM events",
    "TABLE events",
    "DESCRIBE events",
    "SHOW TABLES",
    "SUMMARIZE events",
    "FROM range(20) SELECT range ORDER BY range % 7, range DESC",
    "SELECT range FROM range(20) ORDER BY range DESC LIMIT 3",
    "SELECT range FROM range(20) ORDER BY range LIMIT 3 OFFSET 4",
    "SELECT range FROM range(20) ORDER BY range OFFSET 4",
    "SELECT range FROM range(20) ORDER BY range LIMIT 25%",
    "SELECT range FROM range(20) ORDER BY range FETCH FIRST 2 ROWS ONLY",
    "SELECT DISTINCT range % 3 AS x FROM range(20) ORDER BY x",
    "SELECT 1 AS x UNION ALL SELECT 2 ORDER BY x DESC",
    "(SELECT 1 AS x LIMIT 1) UNION ALL (SELECT 2 LIMIT 1)",
    "WITH x AS (SELECT range AS a FROM range(5) LIMIT 2) SELECT * FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 5) SELECT * FROM r ORDER BY a",
    "SELECT kind, count(*) OVER (PARTITION BY kind) FROM events QUALIFY row_number() OVER () = 1",
    "SELECT range % 2 AS x, count(*) AS n FROM range(9) GROUP BY ALL HAVING n > 1 ORDER BY ALL",
    "FROM events PIVOT (count(*) FOR kind IN ('deploy'))",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileStore]:
    store = FileStore(tmp_path_factory.mktemp("small") / "f.duckdb", threads=2)
    store.land({"events": pa.table({
        "event_id": ["a", "b"], "occurred_at": [datetime(2026, 1, 1)] * 2, "kind": ["deploy"] * 2, "title": ["t"] * 2,
    })})  # fmt: skip
    yield store
    store.close()


@pytest.mark.parametrize("sql", SAID_ALIKE)
def test_the_second_answer_is_the_first(store, sql):
    door = SqlDoor(store.cursor)
    first, second = door.query(sql), door.query(sql)
    assert second.schema == first.schema
    assert second.equals(first)


@pytest.mark.parametrize("last_sql", ["", " ORDER BY x DESC", " LIMIT $limit", " LIMIT $limit::BIGINT"])
def test_an_answer_that_grows_and_shrinks_is_whole_each_time(store, last_sql):
    door = SqlDoor(store.cursor)
    sql = f"SELECT range AS x FROM range($n){last_sql}"
    for count in (5, 7, SMALL_ROWS, SMALL_ROWS + 1, SMALL_ROWS + 2, 3, 4, 8 * SMALL_ROWS, 6, 2):
        rows = door.query(sql, {"n": count, **({"limit": count} if "limit" in sql else {})})
        assert sorted(rows.column("x").to_pylist()) == list(range(count))


def test_an_answer_that_was_small_has_its_limits_too(store):
    door = SqlDoor(store.cursor, rows_limit=1000)
    sql = "SELECT * FROM range($n)"
    assert [door.query(sql, {"n": count}).num_rows for count in (5, 1000)] == [5, 1000]
    for count in (1001, 20_000_000):
        with pytest.raises(PermanentError, match="over 1000 rows"):
            door.query(sql, {"n": count})
    small = SqlDoor(store.cursor, bytes_limit=1000)
    small.query(sql, {"n": 5})
    with pytest.raises(PermanentError, match="bytes"):
        small.query(sql, {"n": 1001})


def test_an_answer_that_was_small_is_never_all_held(store):
    """What runs at once has a LIMIT: rows without end would otherwise be fetched before the refusal."""
    ran = []
    door = SqlDoor(lambda: Told(store.cursor(), ran), rows_limit=1000)
    sql = "SELECT a.range AS x FROM range($n) a, range($n) b"
    door.query(sql, {"n": 2})
    with pytest.raises(PermanentError, match="over 1000 rows"):
        door.query(sql, {"n": 10_000_000})
    assert any(f"LIMIT {SMALL_ROWS + 1}" in one for one in ran)


class Told:
    """A cursor that tells what it runs at once."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, ran: list[str]) -> None:
        self._cursor = cursor
        self._ran = ran

    def execute(self, statement, parameters=None):
        self._ran.append(getattr(statement, "query", statement))
        return self._cursor.execute(statement, parameters)

    def __getattr__(self, name):
        return getattr(self._cursor, name)


@pytest.mark.parametrize(
    ("sql", "parameter"),
    [
        ("SELECT 1 LIMIT $few", "few"),
        ("SELECT 1 LIMIT $few::BIGINT", "few"),
        ("SELECT 1 LIMIT 5", "none"),
        ("SELECT 1 LIMIT $few + 1", "none"),
        ("SELECT 1 LIMIT $few OFFSET 2", "none"),
        ("SELECT 1 LIMIT 10%", "none"),
        ("SELECT 1 LIMIT $few %", "none"),
        ("SELECT 1 LIMIT try_cast($few AS TINYINT)", "none"),
        ("SELECT 1 LIMIT try_cast($few AS TINYINT)::BIGINT", "none"),
        ("SELECT 1 OFFSET 2", "none"),
        ("DESCRIBE events", "none"),
        ("SELECT 1", None),
        ("WITH x AS (SELECT 1 AS a LIMIT 2) SELECT * FROM x", None),
    ],
)
def test_a_limit_is_given_or_is_a_parameter_or_there_is_no_small_form(
    store: FileStore, sql: str, parameter: str | None
):
    cursor = store.cursor()
    form = small_form(cursor, cursor.extract_statements(sql)[0], tree_of(cursor, sql))
    cursor.close()
    assert (form.limit_parameter if form else "none") == parameter
    if form is not None:
        assert form.is_small({"few": SMALL_ROWS})
        assert form.is_small({"few": SMALL_ROWS + 1}) == (parameter is None)
        for other in ("many", None, True, -1, 2.5):
            assert form.is_small({"few": other}) == (parameter is None)
        assert form.is_small({}) == (parameter is None)


def test_every_read_of_a_board_has_a_small_form(store: FileStore):
    cursor = store.cursor()
    files = [file for file in sorted(FOLDER.glob("*.sql")) if not file.stem.endswith(".checks")]
    assert len(files) > 50
    for file in files:
        sql = file.read_text()
        (statement,) = cursor.extract_statements(sql)
        assert small_form(cursor, statement, tree_of(cursor, statement.query)) is not None, file
    cursor.close()


def test_a_form_that_would_say_something_else_is_none(store: FileStore):
    cursor = store.cursor()
    (statement,) = cursor.extract_statements("SELECT 1 AS a")
    assert small_form(cursor, statement, tree_of(cursor, "SELECT 2 AS a")) is None
    cursor.close()
