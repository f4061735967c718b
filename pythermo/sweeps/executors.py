"""Executors by name: where the runs of a sweep are computed if not in processes of this machine."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

CONNECT_SECONDS = 10


@contextmanager
def executor_of(name: str | None) -> Iterator[Executor | None]:
    """Open the executor of a name, for `pythermo.sweep`.

    Parameters
    ----------
    name : str or None
        ``dask=ADDRESS``: the workers of the dask scheduler at this address, such as
        ``dask=tcp://10.0.0.1:8786``. A run whose worker is lost goes on at another one from its
        checkpoint, until dask has lost four workers with it (its setting
        ``distributed.scheduler.allowed-failures``). None: sweep's own processes.

    Raises
    ------
    ValueError
        For another name, or if the package distributed is missing.
    ConnectionError
        If no scheduler answers at the address.
    """
    if name is None:
        yield None
        return
    kind, _, address = name.partition("=")
    if kind != "dask" or not address:
        raise ValueError(f"executor: must be dask=ADDRESS, such as dask=tcp://10.0.0.1:8786, not {name!r}")
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            'executor: dask needs the package distributed: pip install "pythermo[dask]"'
        ) from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise ConnectionError(
            f"executor: no dask scheduler answers at {address} within {CONNECT_SECONDS} s"
        ) from error
    with client:
        yield client.get_executor(pure=False)
