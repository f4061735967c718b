"""The smallest run that has everything: for tests of what is around a run."""

import pythermo as pt

TINY = pt.RunConfig.from_toml("""
[model]
name = "ConvNet"
width = 2
[data]
name = "digits"
samples_per_class = 10
[training]
iterations = 15
batch_size = 16
[measurement]
count = 3
stationary = 2
window = 5
gradients = 2
""")
