"""Experiments and studies by name: presets whose sweeps are shown side by side, and functions."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Experiment:
    """Some presets, by the folder that each sweep gets, and what they show together.

    ``quick`` is a part of it, in minutes.
    """

    description: str
    presets: Mapping[str, str]
    quick: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Study:
    """What is measured and drawn by a function of its own, ``package.module:name``, of the folder for it."""

    description: str
    function: str


STUDIES = {
    "toy": Study(
        "SGD on a sphere in three dimensions: figures 4 and 5, T, convergence, SNR (half a minute).",
        "pythermo.studies.toy:reproduce_toy",
    ),
    "calibration": Study(
        "Isotropic noise, of known temperature: U, S, T, radius beside theory, intervals that cover (6 min).",
        "pythermo.studies.calibration:calibrate",
    ),
    "lemma": Study(
        "Measure the SNR near an optimum of a small and a large network: Lemma 1 (a minute).",
        "pythermo.studies.lemma:reproduce_lemma",
    ),
}


def _both(name: str, ending: str = "") -> dict[str, str]:
    return {setup: f"{name}-{setup}{ending}" for setup in ("up", "op")}


def _sizes(name: str, sizes: tuple[int, ...]) -> dict[str, str]:
    return {**{f"op-{size}": f"{name}-op-{size}" for size in sizes}, "op": f"{name}-op"}


def _gas(name: str) -> dict[str, str]:
    return {protocol: f"gas-{name}-{ending}" for protocol, ending in _PROTOCOLS.items()}


_PROTOCOLS = {"fixed-elr": "elr", "fixed-lr": "lr", "sphere": "sphere"}

EXPERIMENTS = {
    "digits": Experiment(
        "Temperature of SGD on scikit-learn's handwritten digits, by a small and a large ConvNet.",
        _both("digits"),
        quick={"up": "digits-quick"},
    ),
    "digits-mse": Experiment("The digits with squared errors.", _both("digits", "-mse")),
    "digits-epochs": Experiment("The digits with batches without replacement.", _both("digits", "-epochs")),
    "digits-sizes": Experiment(
        "Gradient norms of the large ConvNet on 30, 60 and all digits per class.", _sizes("digits", (30, 60))
    ),
    "fashion-mnist": Experiment(
        "Temperature of SGD on images of clothes, by a small and a large ConvNet.", _both("fashion-mnist")
    ),
    "gas": Experiment(
        "Weights as an ideal gas: a ConvNet on the digits, weight decay as pressure, norm as volume (9 min).",
        _gas("digits"),
    ),
    "gas-jump": Experiment(
        "The jump of a large ConvNet on the digits at fixed effective learning rates.",
        {"fixed-elr": "gas-digits-op"},
    ),
    "gas-fashion-mnist": Experiment("Weights as a gas on images of clothes.", _gas("fashion-mnist")),
    "gas-convnet-cifar10": Experiment(
        "The gas of arXiv 2511.07308: ConvNet(8) on CIFAR-10.", _gas("convnet-cifar10")
    ),
    "gas-convnet-cifar100": Experiment(
        "The gas of arXiv 2511.07308: ConvNet(16) on CIFAR-100.", _gas("convnet-cifar100")
    ),
    "gas-resnet18-cifar10": Experiment(
        "The gas of arXiv 2511.07308: ResNet18(4) on CIFAR-10.", _gas("resnet18-cifar10")
    ),
    "gas-resnet18-cifar100": Experiment(
        "The gas of arXiv 2511.07308: ResNet18(4) on CIFAR-100.", _gas("resnet18-cifar100")
    ),
    "convnet-cifar10": Experiment("The paper's ConvNets on CIFAR-10.", _both("convnet-cifar10")),
    "convnet-cifar100": Experiment("The paper's ConvNets on CIFAR-100.", _both("convnet-cifar100")),
    "resnet18-cifar10": Experiment("The paper's ResNets on CIFAR-10.", _both("resnet18-cifar10")),
    "resnet18-cifar100": Experiment("The paper's ResNets on CIFAR-100.", _both("resnet18-cifar100")),
    "convnet-cifar10-mse": Experiment(
        "ConvNets on CIFAR-10 with squared errors.", _both("convnet-cifar10", "-mse")
    ),
    "convnet-cifar10-epochs": Experiment(
        "ConvNets on CIFAR-10 with batches without replacement.", _both("convnet-cifar10", "-epochs")
    ),
    "convnet-cifar10-sizes": Experiment(
        "Gradient norms of ConvNet(64) on 500, 1250, 2500 and all images per class.",
        _sizes("convnet-cifar10", (500, 1250, 2500)),
    ),
    "resnet18-cifar10-sizes": Experiment(
        "Gradient norms of ResNet18(32) on 500, 1250, 2500 and all images per class.",
        _sizes("resnet18-cifar10", (500, 1250, 2500)),
    ),
}
