"""Files that appear whole or not at all, and folders that belong to one configuration."""

import errno
import fcntl
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr

from pythermo.config.schema import RunConfig, differing_keys

LOCK, CONFIG = ".lock", "config.toml"


def as_path(name: str, value: object) -> Path:
    """Return a path with ``~`` expanded, or raise TypeError naming the argument."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: must be a path, not {value!r}")
    return Path(value).expanduser()


def writable_folder(name: str, value: object) -> Path:
    """Return a folder, made if it is not there, in which files can be made; else raise OSError naming it."""
    folder = as_path(name, value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise type(error)(
            f"{name}: {folder} cannot be a folder for files ({_cause(error)}); name another, or make it "
            "writable"
        ) from error
    return folder


def destination(name: str, value: object) -> Path:
    """Return the path of a file to be written, whose folder is there and can be; else raise naming it."""
    path = as_path(name, value)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _try_to_write(path.parent)
    except OSError as error:
        raise type(error)(
            f"{name}: {path} cannot be written ({_cause(error)}); name a file in a folder that is there and "
            "can be written"
        ) from error
    return path


def _try_to_write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


def _cause(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)


def partial(path: Path) -> Path:
    """Return where a file is written before it gets its name, each time another; see `remove_partial`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def remove_partial(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of a file, or of all files, of a folder that none writes to now."""
    for leftover in folder.glob(f".{name}.*.part"):
        leftover.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, bring it to the disk and give it its name.

    Raises
    ------
    OSError
        Naming the file that could not be written, on a full disk for instance.
    """
    temporary = partial(path)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch raises the latter
        number = getattr(error, "errno", None) or errno.EIO
        raise OSError(number, f"could not be written: {error}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write a Dataset as NetCDF, whole or not at all."""
    write_whole(path, lambda part: dataset.to_netcdf(part, engine="h5netcdf"))


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn what readers raise for a damaged file into a ValueError that names it and says what to do."""
    try:
        yield
    except (FileNotFoundError, PermissionError, MemoryError):  # which say it themselves
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: it is damaged, or not what its name says; {remedy} "
            f"({type(error).__name__}: {error})"
        ) from error


def read_dataset(path: Path, remedy: str = "remove it, and the same call makes it anew") -> xr.Dataset:
    """Read a NetCDF file into memory; ValueError names one that is damaged, and the remedy."""
    with reading(path, remedy):
        return xr.load_dataset(path, engine="h5netcdf")


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    import torch

    write_whole(path, lambda part: torch.save(dict(state), part))


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; no code of the file is run."""
    import torch

    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep a folder from all other threads, processes and machines; wait, saying so, while one has it.

    The lock is flock(2)'s, in a file that stays: the kernel frees it when its holder dies in whatever way,
    and a shared file system carries it to all machines (Linux does over NFS, whose server frees it when a
    machine is gone; Lustre must be mounted with ``flock``). Written by hand, for the package filelock cannot
    say who holds a lock.

    Raises
    ------
    OSError
        If the file system has no locks, or the folder cannot be written.
    """
    writable_folder("out", folder)
    path = folder / LOCK
    with path.open("ab+", buffering=0) as file:  # which frees the lock when it is closed
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text("utf-8", errors="replace") or "another process"
            _say(f"pythermo: waiting for {holder}, which works on {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(path)) from error
        with suppress(OSError):  # who holds it is for people only
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _say(text: str) -> None:
    if sys.stderr is not None:  # as pythonw has none
        with suppress(OSError, ValueError):  # or a closed one
            print(text, file=sys.stderr)


def claim_folder(
    folder: Path, config: RunConfig, without: Collection[str] = (), unsaid: Collection[str] = ()
) -> None:
    """Make a folder for this configuration, or check that it was made for it.

    Parameters
    ----------
    folder : path
        It holds the configuration as ``config.toml``.
    config : RunConfig
        Compared with what is found there as validated models: a folder that lacks a key which has got a
        default since is still valid.
    without : collection of str
        Dotted keys that are not compared.
    unsaid : collection of str
        Those of them that are not written.

    Raises
    ------
    ValueError
        With the keys that differ, if the folder was made by another configuration.
    """
    if (folder / CONFIG).exists():
        check_folder(folder, config, without)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, config.to_toml(unsaid))


def check_folder(folder: Path, config: RunConfig, without: Collection[str] = ()) -> None:
    """Check that a folder was made for this configuration, which it holds; see `claim_folder`."""
    differences = differing_keys(read_config(folder), config, without)
    if differences:
        listed = "\n  ".join(differences)
        raise ValueError(
            f"out: {folder} was made by another configuration; choose another folder. "
            f"It differs in\n  {listed}"
        )


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a run's or sweep's folder; ValueError names the file that cannot be read."""
    path = folder / CONFIG
    try:
        return kept_config(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"out: {path} is not the configuration of a run; put it back as it was, or move the folder away "
            f"({error})"
        ) from error


def kept_config(text: str) -> RunConfig:
    """Return the configuration that a folder or its results keep; those without an engine are torch's."""
    config = RunConfig.from_toml(text)
    if config.training.engine == "auto":
        return config.changed(**{"training.engine": "torch"})
    return config
