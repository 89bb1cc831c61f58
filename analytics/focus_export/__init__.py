"""The chargeback as rows of FOCUS, and a checker of such files over a pinned table of columns."""
