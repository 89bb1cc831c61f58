"""What must hold of the cost ledger for any fleet, any bill and any requests.

The oracle is a second, naive implementation in Fractions, one request at a time; it shares no code with the ledger.
"""

from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import count

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.allocation import reading
from analytics.allocation.idle import POLICIES, apportion, with_idle_policy
from analytics.config import TokenWeights
from analytics.cost import cost_report, team_costs
from analytics.ledger import METHODS
from collector.client import FileClient

DAY = datetime(2026, 11, 1)
HOUR = timedelta(hours=1)
WEIGHTS = TokenWeights()


@dataclass(frozen=True)
class Request:
    key: int
    replica: str
    started_us: int
    """After midnight of DAY."""
    length_us: int
    queue_us: int
    team: str | None
    outcome: str
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    prefill_us: int | None = None
    decode_us: int | None = None
    prefill_step_us: int | None = None
    decode_step_us: int | None = None
    preemptions: int | None = None


requests = st.builds(
    Request,
    key=st.just(0),
    replica=st.sampled_from(["r1", "r2"]),
    started_us=st.integers(-2 * 3_600_000_000, 4 * 3_600_000_000),
    length_us=st.one_of(st.integers(0, 5_000_000), st.integers(0, 3 * 3_600_000_000)),
    queue_us=st.one_of(st.just(0), st.integers(0, 3_600_000_000)),
    team=st.sampled_from(["x", "y", "z", None]),
    outcome=st.sampled_from(["ok", "ok", "ok", "error", "client_disconnect", "rejected", "engine_dead"]),
    input_tokens=st.one_of(st.none(), st.integers(0, 10), st.integers(0, 200_000)),
    cached_tokens=st.one_of(st.none(), st.integers(0, 300_000)),
    output_tokens=st.one_of(st.none(), st.integers(0, 5), st.integers(0, 50_000)),
)
loads = st.lists(requests, max_size=12).map(
    lambda drawn: [replace(request, key=key) for key, request in enumerate(drawn)]
)
times = st.one_of(st.none(), st.integers(0, 10_000_000), st.integers(0, 3 * 3_600_000_000), st.just(10**18))
measured = st.builds(
    lambda request, *rest: replace(
        request,
        **dict(zip(("prefill_us", "decode_us", "prefill_step_us", "decode_step_us", "preemptions"), rest, strict=True)),
    ),
    requests,
    times,
    times,
    times,
    times,
    st.sampled_from([None, 0, 1, 3]),
)
absurd = st.builds(
    lambda request, tokens, length: replace(request, input_tokens=tokens, output_tokens=tokens, length_us=length),
    measured,
    st.sampled_from([-5, 0, 2**62, 2**63 - 1]),
    st.sampled_from([-3_600_000_000, 0, 10**15]),
)
any_loads = st.lists(st.one_of(measured, measured, absurd), max_size=12).map(
    lambda drawn: [replace(request, key=key) for key, request in enumerate(drawn)]
)
"""Requests with every measure there or not, and with values that only a broken clock or sender makes."""
running = st.builds(
    lambda request: replace(
        request,
        started_us=request.started_us % (2 * 3_600_000_000),
        length_us=60_000_000 + request.length_us % 3_600_000_000,
        queue_us=request.queue_us % 30_000_000,
    ),
    measured,
)
"""Requests that are in an engine for a minute or more of the billed hours."""
running_loads = st.lists(running, min_size=1, max_size=12).map(
    lambda drawn: [replace(request, key=key) for key, request in enumerate(drawn)]
)
real_prices = st.integers(10**9, 2 * 10**10)
every_method = st.sampled_from(METHODS)
prices = st.one_of(st.integers(0, 50), st.integers(0, 20_000_000_000))


class Fleet:
    """Two replicas, r1 (1 GPU) and r2 (3 GPUs, leaves at 02:30), and a load, alone on a day of a shared store.

    Their names bear the day: a request with a broken clock runs for years, on into the days of later fleets.
    """

    def __init__(self, client, day, load, price, order=None):
        self.client, self.day, self.load, self.price = client, day, load, price
        gpu_type = f"GPU of {day:%Y-%m-%d}"
        ends = [(name_of("r1", day), 1, 4.0), (name_of("r2", day), 3, 2.5)]
        inventory = [
            {
                "replica": name,
                "valid_from": day,
                "valid_to": day + hours * HOUR,
                "gpu_type": gpu_type,
                "gpu_count": gpus,
            }
            for name, gpus, hours in ends
        ]
        rate = {
            "gpu_type": gpu_type,
            "currency": "USD",
            "gpu_hour_units": price,
            "valid_from": day,
            "rate_id": gpu_type,
        }
        self.client.land("replicas", pa.Table.from_pylist(inventory))
        self.client.land("rate_cards", pa.Table.from_pylist([rate]))
        # ready at once: the inventory of a day is no cold start
        ready = [
            {"event_id": f"{name} {day}", "occurred_at": day, "kind": "ready", "replica": name, "title": "ready"}
            for name, _, _ in ends
        ]
        self.client.land("events", pa.Table.from_pylist(ready))
        if load:
            rows = [row_of(load[place], day) for place in order or range(len(load))]
            self.client.land("requests", pa.Table.from_pylist(rows))

    def report(self, hours=4, weights=WEIGHTS, method="tokens"):
        day = self.day.date()
        return cost_report(
            self.client, day, day + timedelta(days=1), now=self.day + hours * HOUR, weights=weights, method=method
        )


def name_of(replica: str, day: datetime) -> str:
    return f"{replica} of {day:%Y-%m-%d}"


def row_of(request: Request, day: datetime) -> dict:
    started = day + timedelta(microseconds=request.started_us)
    return {
        "trace_id": f"{day:%Y%m%d}{request.key:024x}",
        "span_id": f"{request.key:016x}",
        "started_at": started,
        "ended_at": started + timedelta(microseconds=request.length_us),
        "queue_seconds": request.queue_us / 1e6,
        "replica": name_of(request.replica, day),
        "team": request.team,
        "app": str(request.key),
        "outcome": request.outcome,
        "input_tokens": request.input_tokens,
        "cached_tokens": request.cached_tokens,
        "output_tokens": request.output_tokens,
        "prefill_seconds": seconds(request.prefill_us),
        "decode_seconds": seconds(request.decode_us),
        "prefill_step_seconds": seconds(request.prefill_step_us),
        "decode_step_seconds": seconds(request.decode_step_us),
        "preemptions_count": request.preemptions,
        "source": "test",
        "estimated": False,
    }


def seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def amounts(report) -> dict[tuple[str, str], int]:
    """Amount by (bucket, request) as the ledger has it; the app of every request is its key."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for bucket, app, units in report.entries.select("bucket", "app", "amount_units").iter_rows():
        found[bucket, app] += units
    return {key: units for key, units in found.items() if units}


def oracle(fleet: Fleet, end_hour: int = 4) -> dict[tuple[str, str], int]:
    """Share each replica-hour by largest remainder, naively."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for replica, gpus, lasts in (("r1", 1, 4.0), ("r2", 3, 2.5)):
        for hour in range(end_hour):
            share = Fraction(min(max(lasts - hour, 0), 1))
            if not share:
                continue
            bill = int(share * gpus * fleet.price + Fraction(1, 2))
            pieces = [piece for request in fleet.load if (piece := piece_of(request, replica, hour)) is not None]
            billed_us = int(share * 3_600_000_000)
            spans = [span for _, span, _ in pieces]
            busy_us = min(union(spans), billed_us)
            down = [clip(span, hour) for span in faults(fleet.load, replica, end_hour)]
            fault_us = min(union([*spans, *down]) - union(spans), billed_us - busy_us)
            busy = rounded(bill, busy_us, billed_us)
            fault = rounded(bill, busy_us + fault_us, billed_us) - busy
            found["warm_idle", None] += bill - busy - fault
            found["fault", None] += fault
            total = sum(weight for _, _, weight in pieces)
            if not total:
                found["unattributed", None] += busy
                continue
            quotas = [(request, Fraction(busy * weight, total)) for request, _, weight in pieces]
            left = busy - sum(int(quota) for _, quota in quotas)
            ranked = sorted(quotas, key=lambda pair: (-(pair[1] - int(pair[1])), pair[0].key))
            for place, (request, quota) in enumerate(ranked):
                found[bucket_of(request), str(request.key)] += int(quota) + (place < left)
    return {key: units for key, units in found.items() if units}


def rounded(bill: int, part_us: int, whole_us: int) -> int:
    return int(Fraction(bill * part_us, whole_us) + Fraction(1, 2))


def clip(span, hour: int):
    low, high = hour * 3_600_000_000, (hour + 1) * 3_600_000_000
    return max(span[0], low), max(min(span[1], high), max(span[0], low))


def faults(load: list[Request], replica: str, end_hour: int):
    """From each death to the next request that is served."""
    entered = [
        request.started_us + min(request.queue_us, request.length_us)
        for request in load
        if request.replica == replica
        and request.outcome not in ("rejected", "engine_dead")
        and request.started_us < end_hour * 3_600_000_000
        and (request.outcome == "ok" or request.output_tokens != 0)
    ]
    for request in load:
        if (
            request.replica == replica
            and request.outcome == "engine_dead"
            and request.started_us < end_hour * 3_600_000_000
        ):
            died = request.started_us + request.length_us
            ready = [0] if died <= 0 else []
            back = min([at for at in entered if at >= died] + ready, default=end_hour * 3_600_000_000)
            if died < end_hour * 3_600_000_000:
                yield died, min(back, end_hour * 3_600_000_000)


def piece_of(request: Request, replica: str, hour: int):
    """The part of a request in one hour of a replica: (request, (from, to), weight); None where there is none."""
    if request.replica != replica:
        return None
    ends = request.started_us + request.length_us
    begins = min(request.started_us + request.queue_us, ends)
    prompt = request.input_tokens or 0
    cached = min(request.cached_tokens or 0, prompt)
    weights = ((prompt - cached) * 1000, cached * 100, (request.output_tokens or 0) * 2000)
    if request.outcome == "rejected":
        begins = ends = request.started_us
        weights = (0, 0, 0)
    low, high = hour * 3_600_000_000, (hour + 1) * 3_600_000_000
    if begins == ends:
        return (request, (begins, ends), sum(weights)) if low <= begins < high else None
    if ends <= low or begins >= high:
        return None
    left, right = max(begins, low), min(ends, high)
    length = ends - begins
    part = sum(weight * (right - begins) // length - weight * (left - begins) // length for weight in weights)
    return request, (left, right), part


def union(spans) -> int:
    covered = reach = 0
    reach = -(10**18)
    for left, right in sorted(spans):
        covered += max(0, right - max(left, reach))
        reach = max(reach, right)
    return covered


def bucket_of(request: Request) -> str:
    if request.outcome != "ok":
        return "wasted"
    return "unattributed" if request.team is None else "request"


@pytest.fixture
def fleet_of(tmp_path):
    with closing(FileClient(tmp_path / "fleets.duckdb", write=True)) as client:
        days = (DAY + timedelta(days=3 * serial) for serial in count())
        yield lambda *arguments, **options: Fleet(client, next(days), *arguments, **options)


few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@few
@given(load=loads, price=prices)
def test_ledger_equals_a_naive_one_and_sums_to_the_bill(fleet_of, load, price):
    fleet = fleet_of(load, price)
    report = fleet.report()
    assert report.entries["amount_units"].sum() == report.bill_units
    assert report.entries["amount_units"].min() >= 0
    assert amounts(report) == oracle(fleet)


@few
@given(load=loads, price=prices, data=st.data())
def test_order_of_rows_and_names_of_teams_are_without_effect(fleet_of, load, price, data):
    before = fleet_of(load, price).report()
    order = data.draw(st.permutations(range(len(load))))
    renamed = [replace(request, team=request.team and f"team {request.team}") for request in load]
    after = fleet_of(renamed, price, order=order).report()
    assert amounts(after) == amounts(before)


@few
@given(load=loads, price=prices)
def test_two_teams_together_pay_the_sum_of_both(fleet_of, load, price):
    apart = {row["team"]: row["amount_units"] for row in team_costs(fleet_of(load, price).report()).to_dicts()}
    joined = [replace(request, team={"y": "x"}.get(request.team, request.team)) for request in load]
    together = {row["team"]: row["amount_units"] for row in team_costs(fleet_of(joined, price).report()).to_dicts()}
    assert together.get("x", 0) == apart.get("x", 0) + apart.get("y", 0)


@few
@given(load=loads, price=prices)
def test_hours_add_up_however_they_are_asked_for(fleet_of, load, price):
    fleet = fleet_of(load, price)
    for hour in range(1, 4):
        upto = fleet.report(hours=hour)
        assert amounts(upto) == oracle(fleet, end_hour=hour)


@few
@given(load=loads.filter(bool), price=prices, more=st.integers(1, 100_000), data=st.data())
def test_more_tokens_never_cost_less_nor_others_more(fleet_of, load, price, more, data):
    chosen = data.draw(st.sampled_from(load))
    before = amounts(fleet_of(load, price).report())
    grown = [
        replace(request, output_tokens=(request.output_tokens or 0) + more) if request is chosen else request
        for request in load
    ]
    after = amounts(fleet_of(grown, price).report())
    pieces = 5  # hours that one request can reach here; a rounding can move one unit in each
    for (bucket, key), units in before.items():
        if key == str(chosen.key):
            assert after.get((bucket, key), 0) >= units - (pieces if chosen.length_us else 0)
        elif key is not None:
            assert after.get((bucket, key), 0) <= units + pieces


@few
@given(load=loads, price=st.integers(0, 10_000_000), times=st.integers(2, 9))
def test_a_bill_times_k_is_every_share_times_k(fleet_of, load, price, times):
    before = amounts(fleet_of(load, price).report())
    after = amounts(fleet_of(load, price * times).report())
    slack = (times + 1) * 8  # each replica-hour (7) rounds bill, busy part and share by at most one unit each way
    for key in before.keys() | after.keys():
        assert abs(after.get(key, 0) - times * before.get(key, 0)) <= slack


@few
@given(load=loads.filter(bool), price=prices, data=st.data())
def test_equal_requests_pay_the_same_and_idle_ones_nothing(fleet_of, load, price, data):
    twin = data.draw(st.sampled_from(load))
    twins = [*load, replace(twin, key=100), replace(twin, key=101)]
    nothing = replace(twin, key=102, input_tokens=0, cached_tokens=0, output_tokens=0)
    found = amounts(fleet_of([*twins, nothing], price).report())
    shares = [found.get((bucket_of(twin), key), 0) for key in ("100", "101")]
    assert abs(shares[0] - shares[1]) <= 4
    assert found.get((bucket_of(nothing), "102"), 0) == 0


@few
@given(load=running_loads, price=real_prices, method=every_method, data=st.data())
def test_equal_requests_pay_the_same_and_idle_ones_nothing_under_every_method(fleet_of, load, price, method, data):
    twin = data.draw(st.sampled_from(load))
    unused = {"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "prefill_us": None, "decode_us": None}
    nothing = [
        replace(twin, key=102, prefill_step_us=None, decode_step_us=None, **unused),
        replace(twin, key=103, prefill_step_us=0, decode_step_us=0, **unused),
    ]
    twins = [replace(twin, key=100), replace(twin, key=101)]
    found = amounts(fleet_of([*load, *twins, *nothing], price).report(method=method))
    for bucket in ("request", "wasted", "unattributed"):
        apart = found.get((bucket, "100"), 0) - found.get((bucket, "101"), 0)
        assert abs(apart) <= 4 * 4  # a unit an hour, which moves k units of what was done again
        assert found.get((bucket, "102"), 0) == found.get((bucket, "103"), 0) == 0


GROWS = {"tokens": "output_tokens", "kv_token_seconds": "output_tokens", "step_share": "decode_step_us"}
"""What a request uses more of, under the methods whose weights are of each request alone."""


@few
@given(
    load=running_loads, price=real_prices, more=st.integers(1, 100_000),
    method=st.sampled_from(sorted(GROWS)), data=st.data(),
)  # fmt: skip
def test_more_use_never_costs_less_nor_others_more(fleet_of, load, price, more, method, data):
    load = [
        replace(request, prefill_step_us=request.prefill_step_us or 0, decode_step_us=request.decode_step_us or 0)
        for request in load
    ]
    chosen = data.draw(st.sampled_from(load))
    grown = replace(chosen, **{GROWS[method]: (getattr(chosen, GROWS[method]) or 0) + more})
    before = together(fleet_of(load, price).report(method=method))
    after = together(fleet_of([grown if one is chosen else one for one in load], price).report(method=method))
    for key in before.keys() | after.keys():
        gain = after.get(key, 0) - before.get(key, 0)
        assert gain >= -5 if key == str(chosen.key) else gain <= 5  # hours of a request, in each a rounding


def together(report) -> dict[str, int]:
    """What each request pays in all its buckets."""
    found: dict[str, int] = defaultdict(int)
    for (_, key), units in amounts(report).items():
        if key is not None:
            found[key] += units
    return found


@few
@given(load=any_loads, price=prices, method=every_method, most=st.integers(1, 4))
def test_requests_read_in_small_batches_cost_the_same(fleet_of, load, price, method, most):
    fleet = fleet_of(load, price)
    whole = fleet.report(method=method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "ROWS_AT_ONCE", most)  # below the requests of an hour its replicas are read in slices
        batched = fleet.report(method=method)
    assert batched.entries.equals(whole.entries)
    assert batched.hourly.equals(whole.hourly)


@few
@given(load=loads.filter(bool), price=prices, cached_milli=st.integers(1, 999))
def test_the_cached_discount_moves_amounts_without_a_jump(fleet_of, load, price, cached_milli):
    within_an_hour = [
        replace(
            request, started_us=abs(request.started_us) // 3_600_000_000 * 3_600_000_000, queue_us=0, length_us=10**9
        )
        for request in load
    ]
    fleet = fleet_of(within_an_hour, price)
    less, more = (
        amounts(fleet.report(weights=TokenWeights(cached=milli / 1000))) for milli in (cached_milli, cached_milli + 1)
    )
    step = 1 + Fraction(1, cached_milli)  # the most by which a weight can grow
    for key in less.keys() | more.keys():
        assert less.get(key, 0) / step - 1 <= more.get(key, 0) <= less.get(key, 0) * step + 1


@few
@given(load=any_loads, price=prices, method=every_method)
def test_every_unit_is_in_one_place_under_every_method(fleet_of, load, price, method):
    report = fleet_of(load, price).report(method=method)
    entries = report.entries
    assert sum(entries["amount_units"].to_list()) == report.bill_units
    assert min(entries["amount_units"].to_list()) >= 0
    assert all(entries.schema[name] == pl.Int64 for name in entries.columns if name.endswith("_units"))
    parts = entries.filter(pl.col("method").is_not_null())
    assert (parts["input_units"] + parts["cached_units"] + parts["output_units"] == parts["amount_units"]).all()
    assert entries["saved_units"].min() >= 0
    known = METHODS if method == "auto" else (method,)
    assert set(parts["method"]) <= set(known)


@few
@given(load=any_loads, price=prices, method=every_method, data=st.data())
def test_order_is_without_effect_and_a_rerun_is_the_same_under_every_method(fleet_of, load, price, method, data):
    fleet = fleet_of(load, price)
    before = fleet.report(method=method)
    assert fleet.report(method=method).entries.equals(before.entries)
    order = data.draw(st.permutations(range(len(load))))
    assert amounts(fleet_of(load, price, order=order).report(method=method)) == amounts(before)


@few
@given(load=any_loads, price=prices, method=every_method)
def test_hours_add_up_under_every_method(fleet_of, load, price, method):
    """An hour's amounts depend on that hour alone: what an earlier end of the bill says of it stays as it is."""
    served = [replace(request, outcome="ok") if request.outcome == "engine_dead" else request for request in load]
    fleet = fleet_of(served, price)
    whole = fleet.report(method=method).hourly
    for hours in (1, 2, 3):
        part = fleet.report(method=method, hours=hours).hourly
        upto = whole.filter(pl.col("hour_at") < fleet.day + hours * HOUR)
        assert part.sort(pl.all()).equals(upto.sort(pl.all()))


@few
@given(load=any_loads, price=prices, method=every_method.filter(lambda name: name != "shapley"))
def test_merged_teams_pay_the_sum_under_every_method_but_shapley(fleet_of, load, price, method):
    def teams(found):
        return {row["team"]: row["amount_units"] for row in team_costs(found).to_dicts() if row["team"]}

    apart = teams(fleet_of(load, price).report(method=method))
    joined = [replace(request, team={"y": "x"}.get(request.team, request.team)) for request in load]
    together = teams(fleet_of(joined, price).report(method=method))
    assert together.get("x", 0) == apart.get("x", 0) + apart.get("y", 0)
    assert together.get("z", 0) == apart.get("z", 0)


@few
@given(load=any_loads, price=st.integers(0, 10_000_000), times=st.integers(2, 9), method=every_method)
def test_scale_holds_under_every_method(fleet_of, load, price, times, method):
    before, after = (amounts(fleet_of(load, cost).report(method=method)) for cost in (price, price * times))
    slack = (times + 1) * 8 * 4  # of k preemptions, the part that was done again rounds by up to k units
    for key in before.keys() | after.keys():
        assert abs(after.get(key, 0) - times * before.get(key, 0)) <= slack


@few
@given(load=any_loads, price=prices, method=every_method, policy=st.sampled_from(POLICIES))
def test_an_idle_policy_moves_idle_and_nothing_else(fleet_of, load, price, method, policy):
    fleet = fleet_of(load, price)
    report = fleet.report(method=method)
    moved = with_idle_policy(fleet.client, report, policy)
    assert sum(moved.entries["amount_units"].to_list()) == report.bill_units
    assert min(moved.entries["amount_units"].to_list()) >= 0
    idle = pl.col("bucket").is_in(["warm_idle", "idle_share"])
    assert moved.entries.filter(~idle).equals(report.entries.filter(~idle))


def test_an_hour_without_a_request_is_idle_under_every_method(fleet_of):
    fleet = fleet_of([], 12_345)
    for method in METHODS:
        report = fleet.report(method=method)
        assert set(report.entries["bucket"]) == {"warm_idle"}
        for policy in POLICIES:
            assert set(with_idle_policy(fleet.client, report, policy).entries["bucket"]) == {"warm_idle"}


@given(units=st.integers(-(10**12), 10**12), weights=st.dictionaries(st.text(max_size=3), st.integers(0, 10**9)))
def test_apportioning_is_exact_and_fair(units, weights):
    parts = apportion(units, weights)
    total = sum(weights.values())
    assert sum(parts.values()) == (units if total else 0)
    assert all(abs(part - Fraction(units * weights[name], total)) < 1 for name, part in parts.items())
