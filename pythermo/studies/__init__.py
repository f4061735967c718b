"""Whole experiments, from the first step to the last figure."""
