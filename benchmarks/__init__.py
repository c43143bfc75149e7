"""Benchmarks: ratios in one run, beside peers and the raw read of the same bytes."""
