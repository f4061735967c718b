"""The images of a configuration."""

from pythermo import data
from pythermo.experiment.config import RunConfig


def load_data(config: RunConfig) -> data.Images:
    """Return the images of a configuration."""
    settings = config.data
    return data.load(
        settings.name,
        samples_per_class=settings.samples_per_class,
        label_noise=settings.label_noise,
        seed=settings.seed,
        side=settings.side,
        test_samples=settings.test_samples,
    )
