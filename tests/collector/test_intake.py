"""What the intake hands on: bodies of one turn of the event loop together, and none once the decoder is closed."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from collector.decoded import Decoded
from collector.errors import RetryableError
from collector.receivers.intake import Intake
from collector.self_metrics import SelfMetrics
from collector.spool_records import Record
from collector.testing import span_message, traces_body
from collector.trace_decoding import Job, TraceDecoder, TraceDecoding, compiled_walker


@dataclass
class Decoding:
    """Stands where traces are decoded: notes what came together, and gives no rows."""

    groups: list[int] = field(default_factory=list)
    closed: bool = False

    def put(self, jobs: list[Job]) -> None:
        self.groups.append(len(jobs))
        for job in jobs:
            job.told(Decoded())


def intake_of(decoding) -> Intake:
    return Intake(None, None, None, decoding, SelfMetrics(), max_body_bytes=2**20)


def test_bodies_of_one_turn_of_the_loop_are_decoded_together():
    decoding, told = Decoding(), []

    async def send() -> None:
        intake = intake_of(decoding)
        for bodies in (3, 2):
            for _ in range(bodies):
                intake.put("traces", b"", "identity", {}, told.append)
            await intake.accept("traces", b"")

    asyncio.run(send())
    assert decoding.groups == [4, 3]
    assert len(told) == 5


def test_a_closed_decoder_takes_nothing():
    async def send() -> None:
        intake_of(Decoding(closed=True)).put("traces", b"", "identity", {}, lambda answer: None)

    with pytest.raises(RetryableError):
        asyncio.run(send())


def test_bodies_that_come_to_a_decoder_as_it_closes_are_told():
    decoding, told = TraceDecoding(TraceDecoder(SelfMetrics(), 2**20), lambda decoded: None), []
    decoding.start()
    decoding.close()
    decoding.put([Job(None, told.append), Job(None, told.append)])
    assert [type(one) for one in told] == [RetryableError, RetryableError]


def test_a_failure_to_keep_bodies_answers_them_and_leaves_the_walker_alone():
    told, kept = [], []

    def keep(jobs, records):
        if not kept:
            kept.append(records)
            raise OSError("no space")
        jobs[0].told(records[0].rows)

    walker = compiled_walker()
    decoding = TraceDecoding(TraceDecoder(SelfMetrics(), 2**20, walker), keep)
    decoding.start()
    record = Record("traces", "identity", 1_790_000_100_000_000, {}, traces_body(span_message(1)))
    for _ in range(2):
        answered = threading.Event()
        decoding.put([Job(record, lambda answer, over=answered: (told.append(answer), over.set()))])
        assert answered.wait(30)
    decoding.close()
    assert isinstance(told[0], RetryableError) and told[1].rows_count == 1
    assert decoding.decoder.walker is walker
