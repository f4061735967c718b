"""Files of data sets as they are published, written by the tests: IDX, records, Python 2's pickles, archives."""

import gzip
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from typing import ClassVar

import numpy as np

PIXELS = 3 * 32 * 32


def write_idx(path, array, magic=None, sizes=None, zipped=True):
    """Write unsigned bytes; ``magic`` and ``sizes`` for headers that are wrong."""
    magic = 0x0800 | array.ndim if magic is None else magic
    sizes = array.shape if sizes is None else sizes
    data = struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, 1) if zipped else data)


def write_archive(path, members, more=()):
    """Write a .tar.gz of a folder's files by name, and further TarInfos."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for folder in sorted({name.partition("/")[0] for name in members}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))


def records(pixels, *labels):
    """Return binary records: the label bytes in this order, then the pixels [N, 3072]."""
    return np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()


def python2_pickle(values):
    """Return the bytes that Python 2's cPickle writes for a dict, protocol 2: byte strings, NumPy 1's names."""
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(values)
    return file.getvalue()


class _Python2Pickler(pickle._Pickler):
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value.encode("latin-1") if isinstance(value, str) else value
        short = len(data) < 256
        self.write(b"U" + struct.pack("<B", len(data)) if short else b"T" + struct.pack("<i", len(data)))
        self.write(data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else obj.__module__
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)


def small(layout, count):
    """Return a layout with so many images in each file."""
    return replace(layout, train_count=count, test_count=count)


def images(layout, seed=0):
    """Return random pixels and labels of each file of a layout; all labels occur where there is room."""
    random = np.random.default_rng(seed)
    counts = dict.fromkeys(layout.train, layout.train_count) | dict.fromkeys(layout.test, layout.test_count)
    return {
        name: (
            random.integers(0, 256, (count, PIXELS), dtype=np.uint8),
            random.permutation(np.arange(count) % layout.num_classes),
        )
        for name, count in counts.items()
    }


def binary_members(layout, files):
    """Return the members of a binary archive; CIFAR-100's coarse labels are the fine ones over five."""
    coarse = layout.batches.label_bytes == 2
    return {
        f"{layout.folder}/{name}": records(pixels, *([labels // 5] if coarse else []), labels)
        for name, (pixels, labels) in files.items()
    } | {f"{layout.folder}/batches.meta.txt": b"airplane\nautomobile\n"}


def python_members(layout, files, dumps=python2_pickle):
    """Return the members of an archive of pickles, with all that the published ones hold."""
    members = {}
    for name, (pixels, labels) in files.items():
        batch = {
            b"batch_label": b"training batch 1 of 5",
            b"data": pixels,
            b"filenames": [b"leptodactylus_pentadactylus_s_%06d.png" % i for i in range(len(labels))],
        }
        if layout.batches.labels == "labels":
            batch[b"labels"] = labels.tolist()
        else:
            batch |= {b"fine_labels": labels.tolist(), b"coarse_labels": (labels // 5).tolist()}
        members[f"{layout.folder}/{name}"] = dumps(batch)
    return members | {f"{layout.folder}/batches.meta": dumps({b"label_names": [b"airplane"]})}
