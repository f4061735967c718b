"""A run of a second, with a window that is full before its end."""

import pythermo as pt

QUICK = pt.RunConfig.from_toml("""
lr = 0.02
[model]
name = "ConvNet"
width = 2
[data]
name = "digits"
samples_per_class = 30
label_noise = 0.2
[training]
iterations = 120
batch_size = 32
[measurement]
count = 12
stationary = 3
window = 20
gradients = 4
""")
