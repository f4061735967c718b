from . import data, figures, models, ops, sphere
from .autocorrelation import (
    effective_sample_size,
    integrated_autocorrelation_time,
    trajectory_autocorrelation_time,
)
from .entropy import (
    DEFAULT_KS,
    default_ks,
    gradient_cloud_entropy,
    knn_graph_entropy,
    knn_graph_entropy_error,
)
from .experiment.config import RunConfig
from .experiment.run import run
from .experiment.snapshots import load_network
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
from .trajectory_entropy import CorrelatedWindowWarning, EntropyEstimate, TrajectoryEntropy

__version__: str
__all__ = [
    "DEFAULT_KS",
    "CorrelatedWindowWarning",
    "EntropyEstimate",
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
    "gradient_cloud_entropy",
    "gradient_noise",
    "gradient_noise_about_mean",
    "integrated_autocorrelation_time",
    "knn_graph_entropy",
    "knn_graph_entropy_error",
    "kozachenko_leonenko_entropy",
    "load_network",
    "load_sweep",
    "models",
    "ops",
    "project_",
    "run",
    "sphere",
    "sphere_histogram_entropy",
    "sweep",
    "temperature_along_run",
    "trajectory_autocorrelation_time",
]
