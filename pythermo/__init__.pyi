from . import data, figures, models, ops, sphere
from .analysis.gas import gas
from .analysis.gas_laws import GasAnalysis, analyze_gas
from .analysis.stationarity import stationarity
from .analysis.temperatures import Analysis, analyze
from .analysis.thermometers import thermometers
from .config.member import Member
from .config.preset import Preset
from .config.schema import RunConfig
from .estimators.absolute_entropy import kozachenko_leonenko_entropy, sphere_histogram_entropy
from .estimators.autocorrelation import (
    effective_sample_size,
    integrated_autocorrelation_time,
    trajectory_autocorrelation_time,
)
from .estimators.entropy import (
    DEFAULT_KS,
    default_ks,
    gradient_cloud_entropy,
    knn_graph_entropy,
    knn_graph_entropy_error,
)
from .estimators.gradient_noise import GradientNoise, gradient_noise, gradient_noise_about_mean
from .estimators.temperature import (
    PowerLaw,
    TemperatureFit,
    fit_power_law,
    fit_temperature,
    free_energy,
    temperature_along_run,
)
from .estimators.temperature_estimate import TemperatureEstimate, estimate_temperature
from .estimators.trajectory_entropy import CorrelatedWindowWarning, EntropyEstimate, TrajectoryEntropy
from .figures.panels import (
    plot_along_runs,
    plot_drifts,
    plot_energy,
    plot_entropy,
    plot_free_energy,
    plot_snr,
    plot_surface,
    plot_temperature,
    plot_thermometers,
)
from .optim import ProjectedSGD, WeightDecaySGD, project_
from .studies.report import report
from .sweeps.members import load_sweep
from .sweeps.run import run
from .sweeps.snapshots import load_network
from .sweeps.sweep import SweepError, sweep
from .training.ensemble import Ensemble
from .training.reading import ThermometerReading
from .training.thermometer import Thermometer

__version__: str
__all__ = [
    "DEFAULT_KS",
    "Analysis",
    "CorrelatedWindowWarning",
    "Ensemble",
    "EntropyEstimate",
    "GasAnalysis",
    "GradientNoise",
    "Member",
    "PowerLaw",
    "Preset",
    "ProjectedSGD",
    "RunConfig",
    "SweepError",
    "TemperatureEstimate",
    "TemperatureFit",
    "Thermometer",
    "ThermometerReading",
    "TrajectoryEntropy",
    "WeightDecaySGD",
    "analyze",
    "analyze_gas",
    "data",
    "default_ks",
    "effective_sample_size",
    "estimate_temperature",
    "figures",
    "fit_power_law",
    "fit_temperature",
    "free_energy",
    "gas",
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
    "plot_along_runs",
    "plot_drifts",
    "plot_energy",
    "plot_entropy",
    "plot_free_energy",
    "plot_snr",
    "plot_surface",
    "plot_temperature",
    "plot_thermometers",
    "project_",
    "report",
    "run",
    "sphere",
    "sphere_histogram_entropy",
    "stationarity",
    "sweep",
    "temperature_along_run",
    "thermometers",
    "trajectory_autocorrelation_time",
]
