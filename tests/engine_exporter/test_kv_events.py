"""KV-cache events as vLLM publishes them: what a cache holds, since when and for whom, and never a token."""

import time

import msgspec
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_exporter import semconv
from engine_exporter.errors import ExporterError
from engine_exporter.kv_events import ENGINES_LIMIT, KvEvents, KvSubscriber, binds
from engine_exporter.kv_residency import OTHER, OWNERS_LIMIT, KvCache
from engine_exporter.kv_wire import BlockStored, Decoder

SECRET = 987_654_321


def stored(hashes, team=None, **more):
    event = {
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": None, "token_ids": [SECRET] * 32,
        "block_size": 32, "lora_id": None, "medium": "GPU", "lora_name": None, "extra_keys": [["salt"]],
        "group_idx": 0, **more,
    }  # fmt: skip
    return {**event, "session_id": team} if team else event


def removed(hashes):
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU", "group_idx": 0}


def batch(at, *events, rank=0):
    return msgspec.msgpack.encode([at, list(events), rank])


def values(events, *labels, engine="0"):
    wanted = {"engine": engine, "medium": "GPU"} | dict(labels)
    return {point.name.removeprefix("infer.kv."): point.value for point in events.points() if point.labels == wanted}


def test_blocks_come_are_used_again_and_go():
    now = [100.0]
    events = KvEvents(now=lambda: now[0])
    events.take(0, batch(10.0, stored([b"a", b"b", 3])))
    events.take(1, batch(11.0, stored([b"a"])))
    events.take(2, batch(14.0, removed([b"a", b"never seen"])))
    events.take(3, batch(15.0, stored([b"a"])))
    assert values(events) == {
        "blocks_stored": 4, "blocks_reused": 1, "blocks_restored": 1, "blocks_removed": 1, "residency_seconds": 4.0,
        "cleared": 0, "resident_blocks": 3, "resident_tokens": 96,
    }  # fmt: skip
    events.take(4, batch(20.0, {"type": "AllBlocksCleared"}))
    assert values(events)["resident_blocks"] == 0
    assert values(events)["residency_seconds"] == 4 + 10 + 10 + 5


def test_a_teams_footprint_is_its_tokens_over_time():
    now = [0.0]
    events = KvEvents(now=lambda: now[0])
    events.take(0, batch(100.0, stored([b"a", b"b"], "search"), stored([b"c"], "agents")))
    events.take(1, batch(110.0, removed([b"a"])))
    now[0] = 120.0
    assert values(events, ("team", "search")) == {"team_tokens": 32, "team_token_seconds": 64 * 10 + 32 * 10}
    assert values(events, ("team", "agents")) == {"team_tokens": 32, "team_token_seconds": 32 * 20}


def test_the_first_team_that_stored_a_shared_block_holds_it():
    cache = KvCache()
    cache.store(0.0, [b"a"], 16, "first")
    cache.store(5.0, [b"a"], 16, "second")
    assert cache.token_seconds(10.0) == {"first": 160.0}


def test_so_many_teams_and_no_more():
    cache = KvCache()
    for k in range(3 * OWNERS_LIMIT):
        cache.store(0.0, [k], 16, f"team-{k}")
    assert len(cache.owned) == OWNERS_LIMIT + 1
    assert cache.owned[OTHER].tokens == 16 * 2 * OWNERS_LIMIT


def test_lost_batches_are_counted_and_what_was_known_is_forgotten():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, batch(1.0, stored([b"a"], "search")))
    events.take(5, batch(2.0, stored([b"b"])))
    found = {point.name: point.value for point in events.points() if point.labels == {"engine": "0"}}
    assert found == {"infer.kv.batches": 2, "infer.kv.batches_lost": 4}
    assert values(events)["resident_blocks"] == 1
    assert values(events)["blocks_removed"] == 0
    events.take(0, batch(3.0))  # the engine was restarted: nothing is lost, and it holds nothing
    assert values(events)["resident_blocks"] == 0
    assert {p.value for p in events.points() if p.name == "infer.kv.batches_lost"} == {4}


def test_ranks_media_and_groups_are_told_apart():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, batch(1.0, stored([b"a"]), stored([b"a"], medium="CPU"), stored([b"a"], group_idx=1)))
    events.take(0, batch(1.0, stored([b"a"]), rank=1))
    found = {
        (point.labels["engine"], point.labels["medium"]): point.value
        for point in events.points()
        if point.name == "infer.kv.resident_blocks"
    }
    assert found == {("0", "GPU"): 2, ("0", "CPU"): 1, ("1", "GPU"): 1}


def test_servers_that_send_to_one_address_are_told_apart_by_their_topics():
    events = KvEvents(now=lambda: 0.0)
    for sequence in range(3):
        for topic in ("kv@chat-0@tiny", "kv@chat-1@tiny"):
            events.take(sequence, batch(1.0, stored([sequence])), topic=topic)
    found = {(p.labels.get("engine"), p.name): p.value for p in events.points()}
    for engine in ("kv@chat-0@tiny:0", "kv@chat-1@tiny:0"):
        assert found[engine, "infer.kv.resident_blocks"] == 3
        assert found[engine, "infer.kv.batches_lost"] == 0


def test_topics_that_never_end_fill_no_memory():
    events = KvEvents(now=lambda: 0.0)
    for k in range(ENGINES_LIMIT + 10):
        events.take(0, batch(1.0), topic=f"topic-{k}")
    assert sum(point.name == "infer.kv.batches" for point in events.points()) == ENGINES_LIMIT
    assert events.unreadable_count == 10


def test_events_of_earlier_versions_are_arrays():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, msgspec.msgpack.encode([1.0, [["BlockStored", [1, 2], None, [SECRET] * 32, 16, None]]]))
    events.take(1, msgspec.msgpack.encode([3.0, [["BlockRemoved", [1]], ["AllBlocksCleared"]], None]))
    assert values(events)["residency_seconds"] == 4.0
    assert values(events)["resident_tokens"] == 0


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01", b"\x90", msgspec.msgpack.encode(["x", []])])
def test_what_is_no_batch_is_counted(payload):
    events = KvEvents(now=lambda: 0.0)
    events.take(0, payload)
    assert events.unreadable_count == 1


def test_an_event_of_a_kind_to_come_does_not_hide_the_others():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, batch(1.0, {"type": "BlockMoved", "block_hashes": [1]}, {"type": "BlockStored"}, stored([7])))
    assert events.unreadable_count == 2
    assert values(events)["resident_blocks"] == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_do_harm(payload):
    KvEvents(now=lambda: 0.0).take(0, payload)


def test_token_ids_are_not_even_read():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, batch(1.0, stored([1], "search")))
    assert "token_ids" not in BlockStored.__struct_fields__
    assert str(SECRET) not in repr(events._caches) + repr(list(events.points()))
    _, _, (event,), _ = Decoder().batch(batch(1.0, stored([1])))
    assert str(SECRET) not in repr(event)


actions = st.lists(
    st.tuples(st.sampled_from(["store", "remove", "clear", "forget"]), st.integers(0, 6), st.sampled_from("xyz")),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(actions)
def test_footprints_are_those_of_the_blocks_that_are_there(happenings):
    cache, present, integral = KvCache(), {}, 0.0
    for at, (what, block, owner) in enumerate(happenings):
        integral += 16 * len(present)
        if what == "store":
            cache.store(float(at), [block], 16, owner)
            present.setdefault(block, owner)
        elif what == "remove":
            cache.remove(float(at), [block])
            present.pop(block, None)
        else:
            getattr(cache, what)(float(at))
            present.clear()
        if at == 0:
            integral = 0.0
    assert set(cache.blocks) == set(present)
    assert cache.tokens == 16 * len(present)
    assert sum(one.tokens for one in cache.owned.values()) == cache.tokens
    end = float(max(len(happenings) - 1, 0))
    assert sum(cache.token_seconds(end).values()) == pytest.approx(integral)


@pytest.mark.parametrize("engine_binds", [True, False], ids=["vLLM binds", "this side binds"])
def test_events_come_over_the_wire_whoever_binds(engine_binds):
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    events = KvEvents()
    try:
        if engine_binds:
            port = publisher.bind_to_random_port("tcp://127.0.0.1")
            subscriber = KvSubscriber(f"tcp://127.0.0.1:{port}", events, topic="kv")
        else:
            subscriber = KvSubscriber("tcp://*:0", events, topic="kv")
            publisher.connect(subscriber.address.replace("0.0.0.0", "127.0.0.1"))
        subscriber.start()
        deadline = time.monotonic() + 60
        sequence = 0
        while not events.heard and time.monotonic() < deadline:  # a subscription takes a moment to arrive
            publisher.send_multipart([b"kv", sequence.to_bytes(8, "big"), batch(1.0, stored([sequence]))])
            sequence += 1
            time.sleep(0.02)
        assert events.heard
        assert values(events, engine="kv:0")["resident_blocks"] >= 1
        subscriber.stop()
    finally:
        publisher.close(linger=0)
        context.destroy(linger=0)


def test_vllms_own_rule_says_who_binds():
    assert binds("tcp://*:5557") and binds("tcp://[::]:5557")
    assert not binds("tcp://127.0.0.1:5557") and not binds("ipc:///run/kv.sock")


def test_an_address_that_can_not_be_is_told():
    with pytest.raises(ExporterError, match="can't connect to 'nonsense'"):
        KvSubscriber("nonsense", KvEvents())


def test_every_metric_of_the_events_is_in_the_list_of_what_is_sent():
    events = KvEvents(now=lambda: 0.0)
    events.take(0, batch(1.0, stored([1], "search")))
    known = {metric.name for metric in semconv.METRICS}
    assert {point.name for point in events.points()} <= known
    assert {name for name in known if name.startswith("infer.kv.")} == {point.name for point in events.points()}
