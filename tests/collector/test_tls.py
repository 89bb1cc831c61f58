"""TLS on all three ports, with and without certificates of clients; real certificates of a throw-away authority."""

import contextlib
import select
import socket
import socketserver
import ssl
import threading

import grpc
import httpx
import pytest
import trustme
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from collector.client import HttpClient
from collector.client_tls import CA, CERT, KEY, client_context
from collector.config import CollectorConfig
from collector.errors import PermanentError, RetryableError
from collector.testing import running_collector, span_message, traces_body
from collector.tls import tls_of
from engine_exporter.span_queue import request_span
from engine_exporter.span_sender import SpanSender

NOW_NS = 1_790_000_000_000_000_000
PROTOBUF = {"Content-Type": "application/x-protobuf"}
AREA = "FLEETMETER__COLLECTOR__TLS_"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Our authority, a server's and a client's certificate of it, and a stranger's."""
    folder = tmp_path_factory.mktemp("certificates")
    ours, strangers = trustme.CA(), trustme.CA()
    made = {}
    for name, authority in (("server", ours), ("client", ours), ("stranger", strangers)):
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        made[name] = (folder / f"{name}.pem", folder / f"{name}.key")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(made[name][0]), append=number > 0)
        certificate.private_key_pem.write_to_path(str(made[name][1]))
    made["ca"] = folder / "ca.pem"
    ours.cert_pem.write_to_path(str(made["ca"]))
    return made


def server_environment(files, *, mutual):
    cert, key = files["server"]
    names = {AREA + "CERT_FILE": str(cert), AREA + "KEY_FILE": str(key)}
    return {**names, AREA + "CLIENT_CA_FILE": str(files["ca"])} if mutual else names


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mtls"])
def secured(request, files, tmp_path_factory):
    environment = server_environment(files, mutual=request.param)
    with running_collector(tmp_path_factory.mktemp("tls"), **environment) as collector:
        yield collector, request.param


def shown(files, name):
    cert, key = files[name]
    return {CERT: str(cert), KEY: str(key)}


def test_a_client_that_trusts_the_authority_gets_in(secured, files, monkeypatch):
    collector, mutual = secured
    environment = {CA: str(files["ca"]), **(shown(files, "client") if mutual else {})}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert collector.api.startswith("https://")
    with contextlib.closing(HttpClient(collector.api)) as client:
        assert client.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
    body = traces_body(span_message(1))
    verify = client_context(environment)
    answer = httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=PROTOBUF, verify=verify)
    assert answer.status_code == 200
    pair = [file.read_bytes() for file in reversed(files["client"])] if mutual else [None, None]
    credentials = grpc.ssl_channel_credentials(files["ca"].read_bytes(), *pair)
    with grpc.secure_channel(collector.otlp_grpc, credentials) as channel:
        channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")(body, timeout=10)


@contextlib.contextmanager
def tunnelling_proxy():
    """A proxy that connects through; gives its address and the heads of the requests that it was sent."""
    heads = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.rfile.readline()
            heads.append(head.decode())
            host, _, port = heads[-1].split()[1].partition(":")
            with socket.create_connection((host, int(port))) as onward:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                ends = {self.connection: onward, onward: self.connection}
                while parts := [(end, end.recv(65_536)) for end in select.select(list(ends), [], [])[0]]:
                    for end, data in parts:
                        ends[end].sendall(data)
                    if not all(data for _, data in parts):
                        return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", heads
        server.shutdown()
        thread.join()


def test_a_proxy_connects_through_and_sees_nothing(secured, files, monkeypatch):
    collector, mutual = secured
    for name, value in {CA: str(files["ca"]), **(shown(files, "client") if mutual else {})}.items():
        monkeypatch.setenv(name, value)
    with tunnelling_proxy() as (address, heads):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@{address}")
        with contextlib.closing(HttpClient(collector.api, token=None)) as client:
            for _ in range(2):
                assert client.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
    (head,) = heads
    assert head.startswith(f"CONNECT {collector.api.removeprefix('https://')} ")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in head


def test_the_exporter_takes_its_certificates_from_opentelemetry_s_variables(secured, files, monkeypatch):
    collector, mutual = secured
    url = collector.otlp_http + "/v1/traces"
    span = request_span("chat", 7, 1, None, Resource({}), {}, NOW_NS, NOW_NS, None)
    stranger = SpanSender(url, None).export([span])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(files["ca"]))
    nameless = SpanSender(url, None).export([span])
    cert, key = files["client"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(cert))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", str(key))
    known = SpanSender(url, None).export([span])
    yes, no = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    assert (stranger, nameless, known) == (no, no if mutual else yes, yes)


def test_who_does_not_trust_the_authority_stays_out(secured):
    collector, _ = secured
    with contextlib.closing(HttpClient(collector.api)) as client, pytest.raises(RetryableError, match="certificate"):
        client.query("SELECT 1")


@pytest.mark.parametrize("secured", [True], indirect=True, ids=["mtls"])
def test_without_a_good_certificate_nobody_gets_in(secured, files):
    collector, _ = secured
    body = traces_body(span_message(1))
    for own in ({}, shown(files, "stranger")):
        verify = client_context({CA: str(files["ca"]), **own})
        for address in (collector.otlp_http + "/v1/traces", collector.api + "/api/v1/sql"):
            with pytest.raises((httpx.HTTPError, ssl.SSLError)):
                httpx.post(address, content=body, headers=PROTOBUF, verify=verify)
    credentials = grpc.ssl_channel_credentials(files["ca"].read_bytes())
    with grpc.secure_channel(collector.otlp_grpc, credentials) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")(body, timeout=5)


def test_plain_http_to_a_port_with_tls_is_no_way_in(secured):
    collector, _ = secured
    with pytest.raises(httpx.HTTPError):
        httpx.get(collector.api.replace("https", "http") + "/readyz")


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (("server", None), "needs both"),
        ((None, "server"), "needs both"),
        (("server", "client"), "belong together"),
        (("server", "missing"), "No such file"),
    ],
)
def test_files_that_do_not_belong_together_are_told(files, tmp_path, chosen, says):
    cert, key = chosen
    config = CollectorConfig(
        tls_cert_file=files[cert][0] if cert else None,
        tls_key_file=tmp_path / "none.key" if key == "missing" else files[key][1] if key else None,
    )
    with pytest.raises(PermanentError, match=says):
        tls_of(config)


def test_a_client_s_key_without_its_certificate_is_told(files):
    with pytest.raises(PermanentError, match="FLEETMETER_CLIENT_CERT_FILE"):
        client_context({KEY: str(files["client"][1])})
    with pytest.raises(PermanentError, match="PEM"):
        client_context({CA: str(files["client"][1]) + ".none"})
