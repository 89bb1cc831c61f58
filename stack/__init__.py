"""The whole stack on one machine: configuration, supervisor, demo, doctor. Sees every part; no part sees it."""
