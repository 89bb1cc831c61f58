"""The wire walker: OTLP traces in protobuf straight into columns, compiled by numba, with no Python object per span."""
