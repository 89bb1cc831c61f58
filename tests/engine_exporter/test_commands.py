"""The commands as a person meets them: output, errors with their mending, exit codes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from engine_exporter import recording
from fleetmeter import cli, run

PAGE = next(one.body for one in recording.arrivals() if one.kind == recording.METRICS_TEXT)


@pytest.fixture
def serve():
    """A server that gives one page for GET and takes every POST."""
    servers = []

    def start(page, status=200, post_status=200):
        posted = []

        class Door(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(page)

            def do_POST(self):
                posted.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(post_status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", posted

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fleetmeter(capsys, *arguments):
    code = run(cli, list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_real_engines_names_are_all_known(capsys, serve):
    url, _ = serve(PAGE)
    code, out, _ = fleetmeter(capsys, "catalog", "check", url, "--watch", "0")
    assert code == 0
    assert "known    vllm:kv_cache_usage_perc  ->  infer.engine.kv_cache_usage_ratio" in out
    assert out.endswith("0 missing, 0 suspect, 0 unknown\n")


def test_missing_names_are_a_finding(capsys, serve):
    url, _ = serve(b'vllm:gpu_cache_usage_perc{a="b"} 1\nvllm:new 1\n')
    code, out, _ = fleetmeter(capsys, "catalog", "check", f"{url}/metrics", "--format", "json")
    found = json.loads(out)
    assert code == 1
    assert found["renamed"] == {"vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc"}
    assert found["unknown"] == ["vllm:new"]
    assert "vllm:generation_tokens_total" in found["missing"]


def test_who_does_not_answer_may_later(capsys):
    code, out, err = fleetmeter(capsys, "catalog", "check", "http://127.0.0.1:9")
    assert (code, out) == (3, "")
    assert "does not answer" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("page", "status", "code", "says"),
    [
        (b"hello", 200, 2, "not in the Prometheus format"),
        (b"up 1\n", 200, 2, "no metric of an engine that fleetmeter knows"),
        (b"", 404, 2, "answers 404"),
        (b"", 500, 3, "answers 500"),
    ],
)
def test_another_server_is_told_apart(capsys, serve, page, status, code, says):
    url, _ = serve(page, status)
    got, _, err = fleetmeter(capsys, "catalog", "check", url)
    assert got == code
    assert says in err


def test_an_address_that_is_none_is_a_mistake_of_usage(capsys):
    code, _, err = fleetmeter(capsys, "catalog", "check", "vllm")
    assert code == 2
    assert "not an address" in err


def test_the_sidecar_pushes_once(capsys, serve):
    engine, _ = serve(PAGE)
    collector, posted = serve(b"")
    code, _, err = fleetmeter(
        capsys, "export", "--once", "--no-gpu", "--target", f"{engine}/metrics", "--otlp-endpoint", collector,
        "--label", "replica=chat-0",
    )  # fmt: skip
    assert code == 0
    assert "points sent" in err
    assert len(posted) == 1


def test_a_target_that_is_down_is_told_and_worth_a_retry(capsys, serve):
    collector, posted = serve(b"")
    code, _, err = fleetmeter(
        capsys, "export", "--once", "--no-gpu", "--target", "http://127.0.0.1:9/metrics", "--otlp-endpoint", collector
    )
    assert code == 3
    assert "does not answer" in err
    assert len(posted) == 1, "up = 0 is news too"


@pytest.mark.parametrize(("post_status", "code"), [(401, 2), (503, 3)])
def test_a_collector_that_refuses_says_so(capsys, serve, post_status, code):
    engine, _ = serve(PAGE)
    collector, _ = serve(b"", post_status=post_status)
    got, _, err = fleetmeter(
        capsys, "export", "--once", "--no-gpu", "--target", f"{engine}/metrics", "--otlp-endpoint", collector
    )
    assert got == code
    assert f"answers {post_status}" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-gpu", "--once"], "--target"),
        (["--label", "oops"], "KEY=VALUE"),
        (["hash-key", "--team", "a"], "--file"),
    ],
)
def test_what_is_left_out_is_asked_for(capsys, arguments, says):
    code, _, err = fleetmeter(capsys, "export", *arguments)
    assert code == 2
    assert says in err


def test_a_key_is_made_hashed_and_shown_once(capsys, tmp_path):
    path = tmp_path / "keys.yaml"
    code, out, err = fleetmeter(
        capsys, "export", "hash-key", "--team", "search", "--app", "ranker", "--file", str(path), "--generate"
    )
    assert code == 0
    assert out.startswith("sk-") and out.strip() not in err
    (entry,) = yaml.safe_load(path.read_text())["keys"]
    assert (entry["team"], entry["app"]) == ("search", "ranker")
    assert out.strip() not in path.read_text()


def test_the_sidecar_reads_the_configuration_file(capsys, serve, tmp_path):
    engine, _ = serve(PAGE)
    collector, posted = serve(b"")
    config = tmp_path / "fleetmeter.yaml"
    section = {"targets": [f"{engine}/metrics"], "otlp_endpoint": collector, "gpu": False}
    config.write_text(yaml.safe_dump({"engine_exporter": section}))
    code, _, _ = fleetmeter(capsys, "export", "--once", "--config", str(config))
    assert (code, len(posted)) == (0, 1)
