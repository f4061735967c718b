"""
A sweep of a small network
==========================

Four seeds at each of six learning rates, in a few seconds. The runs are too short to be stationary: compare the drifts.
"""

import tempfile

from matplotlib import pyplot

import pythermo as pt

settings = [
    "seeds=4",
    "grid=[{start=-2.0, stop=-1.0, count=6}]",
    "run.training.iterations=800",
    "run.measurement.window=100",
    "fit={}",
]
preset = pt.Preset.load("digits-quick", settings)
with tempfile.TemporaryDirectory() as folder:
    sweep = pt.sweep(preset.run, preset.learning_rates, folder, preset.seeds, jobs=1)

figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
pt.plot_energy(sweep, ax=axes[0, 0])
pt.plot_entropy(sweep, ax=axes[0, 1])
pt.plot_surface(sweep, ax=axes[1, 0])
pt.plot_drifts(sweep, ax=axes[1, 1])

# %%
# Along the runs
# --------------

pt.plot_along_runs(sweep, "loss")
