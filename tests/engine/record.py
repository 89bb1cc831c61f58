"""Record a run of a real vLLM server: OTLP bodies and /metrics texts with their times, scrubbed of this machine.

    python tests/engine/record.py [--seconds 300] [--per-second 1.3] [--seed 11] [FOLDER]

Needs the environment of `make test-engine`. Writes `recording.jsonl.gz` and `clients.json` (what the clients saw)
into FOLDER, default `sample_data/vllm_recording`. `engine_exporter/recording.py` reads it.
"""

import argparse
import asyncio
import base64
import gzip
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import KEYS, TEAMS, Clients, plan
from serving import vllm_server

from engine_exporter.api_keys import add_key

ROOT = Path(__file__).resolve().parent.parent.parent
SCRAPE_SECONDS = 5.0
INSTALL_PATH = re.compile(r"/[^\s\"',;:]*/(?:site-packages|dist-packages)/")
ANY_PATH = re.compile(
    r"(?<![\w.-])/(?:root|home|tmp|work|usr|opt|var|mnt|srv|private|Users)(?:/[^\s\"',;:]*)?(?![\w-])"
)


MACHINE_KEYS = ("host.", "process.", "vllm.process_id")


class Recorder:
    """Takes OTLP over HTTP, acknowledges it and remembers when it came."""

    def __init__(self) -> None:
        self.began = time.time_ns()
        self.entries: list[tuple[float, str, bytes]] = []
        recorder = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.keep(
                    "traces", gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, kind: str, body: bytes) -> None:
        self.entries.append(((time.time_ns() - self.began) / 1e9, kind, body))


def scrub_text(text: str) -> str:
    return ANY_PATH.sub("/removed", INSTALL_PATH.sub("", text))


def scrub_traces(body: bytes) -> bytes:
    """Take paths, host names and process numbers out of every attribute."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        scrub_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                scrub_attributes(span.attributes)
    return request.SerializeToString(deterministic=True)


def scrub_attributes(attributes) -> None:
    kept = [
        item for item in attributes if not item.key.startswith(("host.", "process.")) and item.key != "vllm.process_id"
    ]
    for item in kept:
        if item.value.HasField("string_value"):
            item.value.string_value = scrub_text(item.value.string_value)
    kept = [type(item).FromString(item.SerializeToString()) for item in kept]
    del attributes[:]
    attributes.extend(kept)


def scrub_metrics(text: str) -> str:
    lines = [line for line in text.splitlines() if not re.match(r"(# \w+ )?(process|python)_", line)]
    return scrub_text("\n".join(lines) + "\n")


async def scrape(server, recorder: Recorder, done: asyncio.Event) -> None:
    while True:
        recorder.keep("metrics_text", (await asyncio.to_thread(server.metrics)).encode())
        if done.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), SCRAPE_SECONDS)


async def drive(server, recorder: Recorder, arguments) -> list:
    done = asyncio.Event()
    scraping = asyncio.create_task(scrape(server, recorder, done))
    clients = Clients(server.url, recorder.endpoint, arguments.seed)
    seen = await clients.drive(plan(arguments.seed, arguments.seconds, arguments.per_second))
    await asyncio.sleep(6)  # vLLM's own spans leave every five seconds
    done.set()
    await scraping
    clients.provider.shutdown()
    return seen


def record(arguments, scratch: Path) -> tuple[Recorder, list]:
    keys = scratch / "keys.yaml"
    for team, app in TEAMS.items():
        add_key(keys, KEYS[team], team, app)
    recorder = Recorder()
    with vllm_server(
        scratch, otlp_endpoint=recorder.endpoint, api_keys_file=keys, api_keys=list(KEYS.values())
    ) as server:
        seen = asyncio.run(drive(server, recorder, arguments))
    recorder.server.shutdown()
    return recorder, seen


def write(folder: Path, recorder: Recorder, seen: list, arguments) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = {"kind": "recording", "version": 1, "engine": "vllm 0.32.0 (cpu)", "began_unix_ns": recorder.began}
    with gzip.GzipFile(folder / "recording.jsonl.gz", "wb", compresslevel=9, mtime=0) as file:
        file.write(json.dumps(first).encode() + b"\n")
        for offset, kind, body in sorted(recorder.entries, key=lambda entry: entry[0]):
            entry = {"offset_seconds": round(offset, 6), "kind": kind}
            if kind == "traces":
                entry["body_base64"] = base64.b64encode(scrub_traces(body)).decode()
            else:
                entry["text"] = scrub_metrics(body.decode())
            file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    totals: dict[str, Counter] = {}
    for one in seen:
        known = KEYS.get(one.ask.team) == one.ask.key
        count = totals.setdefault(one.ask.team if known else "nobody", Counter())
        count[one.outcome] += 1
        count["input_tokens"] += one.input_tokens or 0
        count["cached_tokens"] += one.cached_tokens or 0
        count["output_tokens"] += one.output_tokens or 0
    summary = {
        "seed": arguments.seed,
        "seconds": arguments.seconds,
        "requests": len(seen),
        "teams": {team: dict(sorted(count.items())) for team, count in sorted(totals.items())},
    }
    (folder / "clients.json").write_text(json.dumps(summary, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "sample_data" / "vllm_recording")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--per-second", type=float, default=2.2)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        recorder, seen = record(arguments, Path(scratch))
    write(arguments.folder, recorder, seen, arguments)
    print(Counter(one.outcome for one in seen), len(recorder.entries), "entries")


if __name__ == "__main__":
    main()
