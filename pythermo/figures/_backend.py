"""matplotlib, imported whatever ``MPLBACKEND`` says: figures that go to files need no backend."""

import os
from contextlib import suppress


def _import() -> None:
    """Import as ever, but that a backend which is none is no error."""
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


_import()
