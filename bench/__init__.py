"""Measurements, run by hand: `python -m bench NAME`. Ratios are measured side by side and never asserted in a test."""
