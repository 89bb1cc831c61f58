"""The doors through which telemetry comes in: OTLP over HTTP and gRPC, Arrow rows, Prometheus texts."""
