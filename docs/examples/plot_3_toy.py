"""
Where an overparameterized toy converges
========================================

Two samples on a sphere that can both be fitted: below a learning rate of 1 every chain reaches machine zero, above none
does.
"""

import numpy as np
from matplotlib import pyplot

import pythermo as pt

lrs, system = np.linspace(0.8, 1.2, 41), pt.sphere.overparameterized()
found = pt.sphere.simulate(system, lrs, 5000, replicas=16, record=("loss",))
last = found["loss"].isel(step=-1)
figure, axes = pyplot.subplots(layout="constrained")
axes.semilogy(lrs, np.maximum(last, 1e-33), "k.", ms=3)
axes.set(xlabel="learning rate", ylabel="loss after 5000 steps")
