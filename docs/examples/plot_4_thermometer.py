"""
A thermometer in a loop of one's own
====================================

U and T of the noise along a training loop.
"""

import torch
from matplotlib import pyplot

import pythermo as pt

torch.manual_seed(0)
images = pt.data.load("digits")
model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))
weights = pt.models.trained_parameters(model)
optimizer = pt.ProjectedSGD(weights, lr=0.03)


def minibatch_loss():
    """Return the loss of a new minibatch."""
    batch = torch.randint(len(images.train_labels), (128,))
    return torch.nn.functional.cross_entropy(model(images.train_images[batch]), images.train_labels[batch])


thermometer = pt.Thermometer(weights, optimizer, minibatch_loss=minibatch_loss, model=model, window=100)
readings = []
for step in range(1, 601):
    optimizer.zero_grad()
    loss = minibatch_loss()
    loss.backward()
    optimizer.step()
    thermometer.after_step(loss)
    if step % 50 == 0:
        readings.append(thermometer.read())

steps = [one.iteration for one in readings]
figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(steps, [one.energy for one in readings], "o-")
left.set(xlabel="step", ylabel="U")
right.semilogy(steps, [one.noise_temperature for one in readings], "o-")
right.set(xlabel="step", ylabel="T of the noise")
