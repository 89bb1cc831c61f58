// An application in JavaScript: requests with a span inside each, counters, histograms and log lines, then it ends.
// Where they go, and in which protocol, is said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, …).
import { metrics, trace, SpanStatusCode } from "@opentelemetry/api";
import { logs } from "@opentelemetry/api-logs";
import { NodeSDK } from "@opentelemetry/sdk-node";

const sdk = new NodeSDK();
sdk.start();

const count = Number(process.argv[2]);
const tracer = trace.getTracer("checkout");
const meter = metrics.getMeter("checkout");
const sent = meter.createCounter("checkout.orders");
const sizes = meter.createHistogram("checkout.size", { advice: { explicitBucketBoundaries: [10, 100] } });
const log = logs.getLogger("checkout");

for (let number = 0; number < count; number++) {
  tracer.startActiveSpan("chat", (request) => {
    request.setAttributes({
      "infer.request.outcome": number % 10 ? "ok" : "error",
      "gen_ai.request.model": "llama",
      "gen_ai.usage.input_tokens": number,
      "gen_ai.server.time_to_first_token": number / 1000,
      "infer.team": `team-${number % 3}`,
      "checkout.paid": true,
      "checkout.parts": ["a", "ü"],
    });
    tracer.startActiveSpan("retrieve", (inner) => {
      inner.setStatus({ code: SpanStatusCode.ERROR, message: "späte Antwort" });
      inner.end();
    });
    log.emit({ severityNumber: 9, severityText: "INFO", body: `order ${number}`, attributes: { number } });
    request.end();
  });
  sent.add(2, { shop: "α" });
  sizes.record(number);
}
await sdk.shutdown();
