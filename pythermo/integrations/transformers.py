"""A thermometer as a TrainerCallback of Hugging Face's transformers."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pythermo._checks import require_integer
from pythermo.training.reading import ThermometerReading
from pythermo.training.thermometer import Thermometer


class ThermometerCallback(TrainerCallback):
    """Measures U, S, SNR and temperature while a ``transformers.Trainer`` trains.

    Parameters
    ----------
    params : callable
        Returns the scale-invariant weights of the model, as `pythermo.models.scale_invariant_parameters`
        finds them.
    log : callable
        The trainer's own ``log``, which hands numbers by name to what it reports to.
    every : int
        Steps of the optimizer between readings.
    minibatch_loss : callable, optional
        Returns the loss of a new minibatch for the model, as in `pythermo.Thermometer`. The Trainer tells its
        callbacks no losses at steps: U is the mean of what this returns at a reading's steps.
    prefix : str
        Of the names that are logged.
    **settings
        Further arguments of `pythermo.Thermometer`: ``window``, ``stride``, ``gradients``, ``k``.

    Attributes
    ----------
    readings : list of ThermometerReading
        All so far.

    Examples
    --------
    >>> trainer = transformers.Trainer(model, arguments, train_dataset=images)  # doctest: +SKIP
    >>> callback = ThermometerCallback(lambda model: model.parameters(), trainer.log)  # doctest: +SKIP
    >>> trainer.add_callback(callback)  # doctest: +SKIP
    """

    def __init__(
        self,
        params: Callable[[nn.Module], Iterable[Tensor]],
        log: Callable[[dict[str, float]], object],
        every: int = 500,
        minibatch_loss: Callable[[nn.Module], Tensor] | None = None,
        prefix: str = "thermometer/",
        **settings: Any,
    ) -> None:
        for name, value in (("params", params), ("log", log)):
            if not callable(value):
                raise TypeError(f"{name}: must be a function, not {value!r}")
        self._params, self._log, self._minibatch_loss = params, log, minibatch_loss
        self._settings, self._every, self._prefix = settings, require_integer("every", every, 1), prefix
        self.readings: list[ThermometerReading] = []
        self._thermometer: Thermometer

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Begin with the trainer's model and optimizer."""
        closure, model, optimizer = self._minibatch_loss, kwargs["model"], kwargs["optimizer"]
        self._thermometer = Thermometer(
            self._params(model),
            getattr(optimizer, "optimizer", optimizer),  # within accelerate's
            minibatch_loss=None if closure is None else lambda: closure(model),
            model=model,
            **self._settings,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take note of a step, and read when it is time."""
        self._thermometer.after_step()
        if state.global_step % self._every == 0:
            reading = self._thermometer.read()
            self.readings.append(reading)
            self._log(reading.scalars(self._prefix))
