"""
A temperature that is known
===========================

Isotropic noise on the sphere has the temperature lr sigma^2 / 2. Chains give U and S, and their slope gives it back, with
intervals over "seeds", of which each has some chains. The first and the last point have one neighbor only.
"""

import numpy as np
from matplotlib import pyplot

import pythermo as pt

lrs, seeds, chains = np.geomspace(3e-3, 0.05, 7), 8, 64
system = pt.sphere.IsotropicNoise(3, 1.0)
settings = {"start": [0.0, 0.0, -1.0], "replicas": seeds * chains, "window": 4}
U, S = np.empty((len(lrs), seeds)), np.empty((len(lrs), seeds))
for row, lr in enumerate(lrs):
    found = pt.sphere.simulate(system, lr, int(8 / lr), stride=int(1 / lr), **settings)
    points = found["trajectory"].squeeze("lr").values.reshape(seeds, -1, 3)
    U[row] = system.loss(points).mean(axis=-1)
    S[row] = [float(pt.kozachenko_leonenko_entropy(one, geometry="sphere")) for one in points]

estimate = pt.estimate_temperature(lrs, U, S)
T, (low, high) = estimate.temperature, estimate.interval.T
figure, axes = pyplot.subplots(layout="constrained")
axes.loglog(lrs, system.temperature(lrs), "--", color="gray", label="lr σ² / 2")
axes.errorbar(lrs, T, [T - low, high - T], fmt="o", label="dU/dS, 90 % intervals")
axes.set(xlabel="learning rate", ylabel="temperature")
axes.legend()
