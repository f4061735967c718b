"""Experiments: one run, a sweep over learning rates, what is kept on disk, presets, analysis."""
