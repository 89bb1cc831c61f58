"""Benchmarks: ratios and medians measured side by side, printed, never asserted."""
