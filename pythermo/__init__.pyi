from . import data, figures, models, ops, sphere
from .autocorrelation import effective_sample_size, integrated_autocorrelation_time
from .entropy import DEFAULT_KS, TrajectoryEntropy, default_ks, knn_graph_entropy
from .experiment.config import RunConfig
from .experiment.run import run
from .experiment.sweep import SweepError, load_sweep, sweep
from .gradient_snr import GradientNoise, gradient_noise, gradient_noise_about_mean
from .low_dimension import kozachenko_leonenko_entropy, sphere_histogram_entropy
from .optim import ProjectedSGD, project_
from .temperature import (
    PowerLaw,
    TemperatureFit,
    fit_power_law,
    fit_temperature,
    free_energy,
    temperature_along_run,
)

__version__: str
__all__ = [
    "DEFAULT_KS",
    "GradientNoise",
    "PowerLaw",
    "ProjectedSGD",
    "RunConfig",
    "SweepError",
    "TemperatureFit",
    "TrajectoryEntropy",
    "data",
    "default_ks",
    "effective_sample_size",
    "figures",
    "fit_power_law",
    "fit_temperature",
    "free_energy",
    "gradient_noise",
    "gradient_noise_about_mean",
    "integrated_autocorrelation_time",
    "knn_graph_entropy",
    "kozachenko_leonenko_entropy",
    "load_sweep",
    "models",
    "ops",
    "project_",
    "run",
    "sphere",
    "sphere_histogram_entropy",
    "sweep",
    "temperature_along_run",
]
