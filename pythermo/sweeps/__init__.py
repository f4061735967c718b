"""Runs and sweeps of runs: where they are computed, what is kept of them on disk, what they cost."""
