"""The engine model, compiled: continuous batching with chunked prefill, paged KV, prefix cache and routing."""
