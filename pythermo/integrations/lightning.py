"""A thermometer as a Callback of Lightning."""

from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pythermo._checks import require_integer
from pythermo.training.reading import ThermometerReading
from pythermo.training.thermometer import Thermometer


class ThermometerCallback(Callback):
    """Measures U, S, SNR and temperature while Lightning trains, and logs them by the trainer's loggers.

    Parameters
    ----------
    params : callable
        Returns the scale-invariant weights of the module, as `pythermo.models.scale_invariant_parameters`
        finds them.
    every : int
        Steps of the optimizer between readings.
    minibatch_loss : callable, optional
        Returns the loss of a new minibatch for the module, as in `pythermo.Thermometer`.
    prefix : str
        Of the names that are logged.
    **settings
        Further arguments of `pythermo.Thermometer`: ``window``, ``stride``, ``gradients``, ``k``.

    Attributes
    ----------
    readings : list of ThermometerReading
        All so far, also where there is no logger.

    Notes
    -----
    U is the mean of what ``training_step`` returned for the last batch before each step; where gradients are
    accumulated the others count for nothing. The thermometer is part of Lightning's checkpoints. One process
    measures: with several devices each would measure its own batches.

    Examples
    --------
    >>> callback = ThermometerCallback(lambda module: module.network.parameters(), every=500)
    >>> trainer = lightning.Trainer(callbacks=[callback])  # doctest: +SKIP
    """

    def __init__(
        self,
        params: Callable[[LightningModule], Iterable[Tensor]],
        every: int = 500,
        minibatch_loss: Callable[[LightningModule], Tensor] | None = None,
        prefix: str = "thermometer/",
        **settings: Any,
    ) -> None:
        if not callable(params):
            raise TypeError(f"params: must return the weights of a module, which {params!r} does not")
        self._params, self._minibatch_loss, self._settings = params, minibatch_loss, settings
        self._every, self._prefix = require_integer("every", every, 1), prefix
        self.readings: list[ThermometerReading] = []
        self._thermometer: Thermometer | None = None
        self._state: dict[str, Any] | None = None
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or go on from a checkpoint."""
        if len(trainer.optimizers) != 1:
            raise ValueError(f"trainer: must have one optimizer, not {len(trainer.optimizers)}")
        closure = self._minibatch_loss
        self._thermometer = Thermometer(
            self._params(pl_module),
            trainer.optimizers[0],
            minibatch_loss=None if closure is None else lambda: closure(pl_module),
            model=pl_module,
            **self._settings,
        )
        if self._state is not None:
            self._thermometer.load_state_dict(self._state)
            self._state = None
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take note of a step, if one was made, and read when it is time."""
        assert self._thermometer is not None
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self._thermometer.after_step(outputs["loss"] if isinstance(outputs, dict) else outputs)
        if self._steps % self._every == 0:
            reading = self._thermometer.read()
            self.readings.append(reading)
            for logger in trainer.loggers:
                logger.log_metrics(reading.scalars(self._prefix), step=self._steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the thermometer's state, for Lightning's checkpoints."""
        return {} if self._thermometer is None else self._thermometer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until the training goes on."""
        self._state = state_dict or None
