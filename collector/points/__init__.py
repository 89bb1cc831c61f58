"""Metric points without a Python object a point: compiled walkers over the bytes, a cache of series, columns out."""
