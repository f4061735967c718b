"""One network on its way: its steps, its batches, and what is measured of it."""
