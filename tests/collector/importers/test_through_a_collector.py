"""Importing through a running collector, and through one that goes away half-way."""

import contextlib
import json

import pytest

from collector.client import FileClient, HttpClient
from collector.errors import RetryableError
from collector.importers.formats import azure
from collector.importers.loading import Report, Stamp, land_rows, read_rows
from collector.importers.records import RecordFile
from collector.testing import running_collector

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def trace(tmp_path):
    rows = (f"2023-11-16 18:{number // 60:02}:{number % 60:02}.0000010,{number},1\n" for number in range(1000))
    (tmp_path / "azure.csv").write_text(HEADER + "".join(rows))
    return tmp_path / "azure.csv"


def test_a_trace_lands_once_in_a_running_collector_and_can_be_asked_for(cli, trace, tmp_path):
    with running_collector(tmp_path / "data") as collector:
        words = ("import", "azure", trace, "--url", collector.api, "--team", "code", "--format", "json")
        reports = [json.loads(cli(*words).out)[0] for _ in range(2)]
        assert [(report["rows_landed"], report["rows_duplicate"]) for report in reports] == [(1000, 0), (0, 1000)]
        asked = "SELECT team, count(*) AS n, sum(input_tokens)::BIGINT AS tokens FROM requests GROUP BY team"
        ran = cli("query", asked, "--url", collector.api, "--format", "json")
        assert json.loads(ran.out) == [{"team": "code", "n": 1000, "tokens": 499500}]


class LostCollector:
    """A client whose collector goes away after some landings."""

    def __init__(self, client: FileClient, landings: int) -> None:
        self.client, self.landings = client, landings

    def land(self, table, rows):
        if self.landings == 0:
            raise RetryableError("no collector answers")
        self.landings -= 1
        return self.client.land(table, rows)


def test_an_import_that_breaks_off_says_how_far_it_came_and_goes_on_from_there(trace, tmp_path):
    with contextlib.closing(FileClient(tmp_path / "x.duckdb", write=True)) as client:

        def load(target, report):
            land_rows(target, read_rows(RecordFile(trace), azure(), Stamp(), report), report, chunk_rows=300)

        broken = Report("azure", "azure.csv")
        with pytest.raises(RetryableError, match="600 rows had landed; the same command lands the rest and none twice"):
            load(LostCollector(client, 2), broken)
        rest = Report("azure", "azure.csv")
        load(client, rest)
        assert (rest.rows_landed, rest.rows_duplicate) == (400, 600)


def test_a_table_that_the_collector_refuses_is_no_retry(tmp_path):
    with running_collector(tmp_path / "data") as collector, contextlib.closing(HttpClient(collector.api)) as client:
        report = Report("azure", "azure.csv")
        with pytest.raises(Exception, match="trace_id") as caught:
            land_rows(client, [{"started_at": None}], report)
        assert not isinstance(caught.value, RetryableError)
