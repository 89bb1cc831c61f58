"""Targets are found in lists, files, DNS and Kubernetes; their pages are read as they say, and end when they go."""

import asyncio
import base64
import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import dns.message
import dns.rrset
import pytest

from collector.errors import RetryableError
from collector.kubernetes_targets import KubernetesPods
from collector.scrape_config import DnsTargets, KubernetesTargets, ScrapeJob
from collector.scrape_texts import ended_lines, samples_count
from collector.target_files import TargetFiles
from collector.target_names import TargetNames
from collector.targets import Found, Target, targets_of
from collector.testing import running_collector


@contextlib.contextmanager
def serving(answer):
    """A real HTTP server; `answer(path, headers)` gives (status, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answer(self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_address_is_completed_by_its_job():
    job = ScrapeJob(name="vllm", scheme="https", path="/m", labels={"cluster": "eu"})
    found = [Found("a:1"), Found("http://b:2/x"), Found("http://c:3"), Found("a:1", (("late", "1"),)), Found("no good")]
    found.append(Found("d:4", (("replica", "r"),), "http", "own"))
    targets = targets_of(job, found)
    assert [one.url for one in targets] == ["https://a:1/m", "http://b:2/x", "http://c:3/m", "http://d:4/own"]
    assert targets[3].labels == (("cluster", "eu"), ("job", "vllm"), ("replica", "r"))


def test_only_targets_that_match_whole_are_kept():
    job = ScrapeJob(name="vllm", keep={"team": "a|b", "instance": r"h\d:80"})
    found = [Found(f"{host}:80", (("team", team),)) for host, team in (("h1", "a"), ("h2", "ab"), ("xh3", "b"))]
    assert [one.url for one in targets_of(job, found)] == ["http://h1:80/metrics"]


def test_files_are_read_again_when_they_change_and_a_broken_one_keeps_what_it_said(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"targets": ["a:1"], "labels": {"zone": "z", "__meta_x": "y"}}]))
    (tmp_path / "b.yaml").write_text("- targets: [b:2]\n  labels: {__metrics_path__: /m, __scheme__: https}\n")
    files = TargetFiles((str(tmp_path / "*.json"), str(tmp_path / "b.yaml"), str(tmp_path / "none.yml")))
    assert files.find() == [Found("a:1", (("zone", "z"),)), Found("b:2", (), "https", "/m")]
    (tmp_path / "a.json").write_text("[{broken")
    assert [one.address for one in files.find()] == ["a:1", "b:2"]
    (tmp_path / "a.json").write_text("[]")
    assert [one.address for one in files.find()] == ["b:2"]
    (tmp_path / "b.yaml").unlink()
    assert files.find() == []


RECORDS = {
    ("_metrics._tcp.vllm.local.", "SRV"): ["0 0 8000 pod-1.local.", "0 0 8001 pod-2.local."],
    ("vllm.local.", "A"): ["10.0.0.1", "10.0.0.2"],
    ("vllm.local.", "AAAA"): ["fd00::1"],
}


@pytest.fixture
def name_server():
    """A real DNS server over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.05)
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                try:
                    wire, sender = listener.recvfrom(4096)
                except TimeoutError:
                    continue
                query = dns.message.from_wire(wire)
                question = query.question[0]
                kind = dns.rdatatype.to_text(question.rdtype)
                answer = dns.message.make_response(query)
                if records := RECORDS.get((question.name.to_text(), kind)):
                    answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
                else:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                listener.sendto(answer.to_wire(), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "kind", "port", "addresses"),
    [
        ("_metrics._tcp.vllm.local", "SRV", None, ["pod-1.local:8000", "pod-2.local:8001"]),
        ("vllm.local", "A", 8000, ["10.0.0.1:8000", "10.0.0.2:8000"]),
        ("vllm.local", "AAAA", 8000, ["[fd00::1]:8000"]),
        ("nobody.local", "SRV", None, []),
    ],
)
def test_names_lead_to_targets(name_server, name, kind, port, addresses):
    names = TargetNames(DnsTargets(name=name, type=kind, port=port, server=name_server))
    assert [one.address for one in asyncio.run(names.find())] == addresses


def pod(name, *, annotations=None, ip="10.1.0.1", ports=((None, 8000),), labels=None, **metadata):
    named = [{"containerPort": number, **({"name": port} if port else {})} for port, number in ports]
    return {
        "metadata": {
            "name": name, "namespace": "inference", "labels": labels or {}, "annotations": annotations or {}, **metadata
        },
        "spec": {"nodeName": "gpu-1", "containers": [{"name": "vllm", "ports": named}]},
        "status": {"phase": "Running", "podIP": ip},
    }  # fmt: skip


YES = {"prometheus.io/scrape": "true"}
PODS = [
    pod("plain", annotations=YES, labels={"app.kubernetes.io/model": "llama"}),
    pod("said", annotations={**YES, "prometheus.io/port": "9000", "prometheus.io/path": "/m"}, ip="fd00::2"),
    pod("named", annotations=YES, ports=(("http", 80), ("metrics", 9400))),
    pod("quiet"),
    pod("going", annotations=YES, deletionTimestamp="2026-11-21T00:00:00Z"),
    pod("new", annotations=YES, ip=None),
]


@pytest.fixture
def kubernetes(tmp_path):
    """A real HTTP server that answers as the API does: token, selectors, pages."""
    (tmp_path / "token").write_text("secret\n")
    asked = []

    def answer(path, headers):
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        asked.append((parts.path, query))
        if headers.get("Authorization") != "Bearer secret":
            return 401, b'{"kind": "Status", "code": 401}'
        if parts.path not in ("/api/v1/pods", "/api/v1/namespaces/inference/pods"):
            return 404, b"{}"
        start = int(query.get("continue", "0"))
        following = str(start + 2) if start + 2 < len(PODS) else ""
        page = {"kind": "PodList", "metadata": {"continue": following}, "items": PODS[start : start + 2]}
        return 200, json.dumps(page).encode()

    with serving(answer) as address:
        config = KubernetesTargets(
            api_url=f"http://{address}", token_file=tmp_path / "token", ca_file=None, label_selector="app=vllm",
            labels_from={"model": "app.kubernetes.io/model"},
        )  # fmt: skip
        yield config, asked


def test_pods_are_targets_as_their_annotations_say(kubernetes):
    config, asked = kubernetes
    found = asyncio.run(KubernetesPods(config).find())
    assert [(one.address, one.path) for one in found] == [
        ("10.1.0.1:8000", None), ("[fd00::2]:9000", "/m"), ("10.1.0.1:9400", None),
    ]  # fmt: skip
    assert dict(found[0].labels) == {
        "namespace": "inference", "pod": "plain", "replica": "plain", "node": "gpu-1", "model": "llama",
    }  # fmt: skip
    assert len(asked) == 3 and asked[0][0] == "/api/v1/pods"
    assert asked[0][1]["labelSelector"] == "app=vllm" and asked[0][1]["fieldSelector"] == "status.phase=Running"


def test_without_annotations_every_pod_that_is_selected_is_a_target(kubernetes):
    config, asked = kubernetes
    chosen = config.model_copy(update={"need_annotation": False, "namespaces": ("inference",)})
    found = asyncio.run(KubernetesPods(chosen).find())
    assert [dict(one.labels)["pod"] for one in found] == ["plain", "said", "named", "quiet"]
    assert asked[0][0] == "/api/v1/namespaces/inference/pods"


def test_an_api_that_refuses_is_worth_another_try(kubernetes, tmp_path):
    config, _ = kubernetes
    (tmp_path / "token").write_text("stale")
    with pytest.raises(RetryableError, match="401"):
        asyncio.run(KubernetesPods(config).find())


def test_series_that_are_gone_end_and_those_with_times_of_their_own_do_not():
    before = b'# TYPE a gauge\na{x="1"} 1\na{x="2"} 2\nb 3 1790000000000\nc 4 # {t="1"} 1\n'
    assert ended_lines(before, b'a{x="1"} 9\n') == b'# TYPE a gauge\na{x="2"} 2\nc 4\n'
    assert ended_lines(before, before) == b""
    assert samples_count(before) == 4


def test_jobs_read_what_they_find_and_one_bad_target_harms_no_other(tmp_path, data_dir):
    (tmp_path / "token").write_text("scrape-token\n")
    pages = {"/metrics": b'# TYPE g gauge\ng{n="1"} 1\ng{n="2"} 2\n', "/endless": b"x 1\n" * 5000}

    def answer(path, headers):
        if headers.get("Authorization") != "Bearer scrape-token":
            return 401, b""
        return 200, pages[path]

    sql = "SELECT {} FROM metric_points JOIN metric_series USING (series_id) WHERE {}"
    with serving(answer) as address:
        file = tmp_path / "targets.json"
        file.write_text(json.dumps([{"targets": [address, "127.0.0.1:1"], "labels": {"zone": "z1"}}]))
        jobs = [
            {
                "name": "files", "files": [str(file)], "refresh_seconds": 0.2, "interval_seconds": 0.2,
                "bearer_file": str(tmp_path / "token"),
            },
            {
                "name": "limited", "targets": [f"http://{address}/endless"], "samples_limit": 100,
                "interval_seconds": 0.2, "bearer_file": str(tmp_path / "token"),
            },
        ]  # fmt: skip
        with running_collector(data_dir, FLEETMETER__COLLECTOR__SCRAPE_JOBS=json.dumps(jobs)) as collector:
            up = "name = 'up' AND labels['job'] = '{}' AND labels['instance'] = '{}'"
            collector.wait_until(sql.format("max(value)", up.format("files", address)), 1.0)
            collector.wait_until(sql.format("max(value)", up.format("files", "127.0.0.1:1")), 0.0)
            collector.wait_until(sql.format("max(value)", up.format("limited", address)), 0.0)
            two = "name = 'g' AND labels['n'] = '2' AND labels['zone'] = 'z1'"
            collector.wait_until(sql.format("max(value)", two), 2.0)
            duration = "name = 'scrape_duration_seconds' AND labels['job'] = 'files'"
            collector.wait_until(sql.format("count(*) > 1 AND bool_and(value < 5)", duration), True)
            pages["/metrics"] = b'# TYPE g gauge\ng{n="1"} 1\n'
            collector.wait_until(sql.format("arg_max_null(value, observed_at) IS NULL", two), True)
            one = "name = 'g' AND labels['n'] = '1'"
            assert collector.value(sql.format("arg_max_null(value, observed_at)", one)) == 1.0
            file.write_text("[]")
            collector.wait_until(sql.format("arg_max_null(value, observed_at) IS NULL", one), True)
            collector.wait_until(
                sql.format("arg_max_null(value, observed_at) IS NULL", up.format("files", address)), True
            )
            assert collector.metric("fleetmeter_scrape_targets") == 1


def test_a_password_is_sent_as_basic_authentication(tmp_path):
    from collector.scrape_clients import client_of

    (tmp_path / "password").write_text("p\n")
    job = ScrapeJob(name="j", basic_user="u", basic_password_file=tmp_path / "password")
    seen = []

    def answer(path, headers):
        seen.append(headers.get("Authorization"))
        return 200, b""

    async def ask(address):
        async with client_of(job, 5.0, None) as client:
            await client.get(f"http://{address}/metrics")

    with serving(answer) as address:
        asyncio.run(ask(address))
    assert seen == ["Basic " + base64.b64encode(b"u:p").decode()]


@pytest.mark.parametrize(
    "wrong",
    [{"basic_user": "u"}, {"cert_file": "c"}, {"dns": [{"name": "n", "type": "A"}]}, {"path": "metrics"}, {"typo": 1}],
)
def test_a_job_that_can_not_work_is_refused_at_the_start(wrong):
    with pytest.raises(ValueError):
        ScrapeJob.model_validate({"name": "j", **wrong})


def test_targets_compare_by_address_and_labels():
    assert Target("http://a/metrics", (("job", "j"),)) == Target("http://a/metrics", (("job", "j"),))
