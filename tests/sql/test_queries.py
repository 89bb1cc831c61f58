"""Every query of analytics, on folders of small tables: `tests/sql/<query>/<case>/`.

A case holds one `<table>.csv` per table that has rows (an empty cell is null), `parameters.yaml`, and `expected.csv`
with the rows in order; columns that `expected.csv` leaves out are not compared. Where `queries/<query>.checks.sql`
exists, it is run over each case's answer (table `answer`) and must return no rows.
"""

from contextlib import closing
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from polars.testing import assert_frame_equal

from analytics.statements import FOLDER, ask, statement
from collector.client import FileClient
from collector.statement_checks import check_statement
from collector.table_contracts import table_contracts

HERE = Path(__file__).parent
QUERIES = sorted(file.stem for file in FOLDER.glob("*.sql") if not file.stem.endswith(".checks"))
CASES = sorted(case for query in QUERIES for case in (HERE / query).glob("*") if case.is_dir())


def read_table(file: Path, schema: pa.Schema) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(
        column_types={field.name: field.type for field in schema}, strings_can_be_null=True, null_values=[""]
    )
    return pyarrow.csv.read_csv(file, convert_options=options)


def read_parameters(case: Path) -> dict:
    return yaml.safe_load((case / "parameters.yaml").read_text()) or {}


@pytest.fixture
def client(tmp_path):
    with closing(FileClient(tmp_path / "case.duckdb", write=True)) as opened:
        yield opened


def answer_of(client: FileClient, case: Path) -> pl.DataFrame:
    for file in sorted(case.glob("*.csv")):
        if file.stem != "expected":
            schema = table_contracts()[file.stem].schema
            rows = read_table(file, schema)
            for field in schema:
                if field.name not in rows.column_names:
                    rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
            assert client.land(file.stem, rows) == rows.num_rows
    return ask(client, case.parent.name, **read_parameters(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_query_answers_as_expected(case, client):
    answer = answer_of(client, case)
    expected = pl.from_arrow(read_table(case / "expected.csv", answer.to_arrow().schema))
    compared = answer.select(expected.columns)
    assert_frame_equal(compared, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)
    checks = FOLDER / f"{case.parent.name}.checks.sql"
    if checks.is_file():
        with closing(duckdb.connect()) as connection:
            connection.register("answer", answer.to_arrow())
            assert connection.execute(checks.read_text()).fetchall() == []


@pytest.mark.parametrize("query", QUERIES)
def test_query_has_cases_and_says_its_grain(query):
    assert [case for case in CASES if case.parent.name == query], f"give {query} a case under tests/sql/{query}/"
    assert statement(query).startswith(f"-- {query}: "), "the first line states the grain"


@pytest.mark.parametrize("query", QUERIES)
def test_query_passes_the_collectors_read_only_door(query):
    with closing(duckdb.connect()) as connection:
        check_statement(connection, statement(query))


@pytest.mark.parametrize("query", QUERIES)
def test_query_of_an_empty_store_has_the_same_columns(query, client, tmp_path):
    case = next(case for case in CASES if case.parent.name == query)
    on_nothing = ask(client, query, **read_parameters(case))
    with closing(FileClient(tmp_path / "full.duckdb", write=True)) as full:
        assert on_nothing.schema == answer_of(full, case).schema
