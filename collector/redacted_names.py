"""Names of attributes that are dropped by default, as globs, on top of what no decoder lets through at all.

What common instrumentations keep prompts and completions in is never decoded (`attribute_values.CONTENT_PREFIXES`),
whatever is configured; this list is configuration, `collector.redact_attributes`.
"""

REDACTED = (
    # more places of content: OpenInference, MLflow, Langfuse, Vercel AI SDK
    "gen_ai.tool.definitions", "llm.prompt_template.*", "embedding.embeddings*", "retrieval.documents*",
    "mlflow.spanInputs", "mlflow.spanOutputs", "langfuse.observation.input", "langfuse.observation.output",
    "langfuse.trace.input", "langfuse.trace.output", "ai.prompt*", "ai.response.text", "ai.response.toolCalls",
    "ai.toolCall.args", "ai.toolCall.result",
    # bodies, secrets, people
    "http.request.body*", "http.response.body*", "http.request.header.authorization", "http.request.header.cookie",
    "http.request.header.x-api-key", "http.response.header.set-cookie", "user.id", "user.email", "user.name",
    "user.full_name", "enduser.id",
)  # fmt: skip
