"""Benchmarks: ratios against other ways of doing the same work, in one run on one machine."""
