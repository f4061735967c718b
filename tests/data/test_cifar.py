import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest
from published import (
    PIXELS,
    binary_members,
    images,
    python2_pickle,
    python_members,
    records,
    small,
    write_archive,
)

import pythermo as pt
from pythermo.data import cifar, sources
from pythermo.data.cifar import read_cifar

LAYOUTS = {
    "cifar-10-binary.tar.gz": cifar.CIFAR10_BINARY,
    "cifar-10-python.tar.gz": cifar.CIFAR10_PYTHON,
    "cifar-100-binary.tar.gz": cifar.CIFAR100_BINARY,
    "cifar-100-python.tar.gz": cifar.CIFAR100_PYTHON,
}


def members(layout, files):
    binary = isinstance(layout.batches, cifar.BinaryRecords)
    return (binary_members if binary else python_members)(layout, files)


def whole(layout, files):
    """What an archive of these files holds."""
    train = [files[name] for name in layout.train]
    pixels, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return pixels.reshape(-1, 3, 32, 32), labels, *files[layout.test[0]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_every_byte_in_order(tmp_path, name):
    layout = small(LAYOUTS[name], 120)  # of CIFAR-100, too, each label is there
    files = images(layout)
    write_archive(tmp_path / name, members(layout, files))
    found = read_cifar(tmp_path / name, layout)
    pixels, labels, test_pixels, test_labels = whole(layout, files)
    np.testing.assert_array_equal(found.train.images, pixels)
    np.testing.assert_array_equal(found.train.labels, labels)
    np.testing.assert_array_equal(found.test.images, test_pixels.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(found.test.labels, test_labels)
    assert set(found.train.labels) == set(range(layout.num_classes))
    assert found.num_classes == layout.num_classes


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_published_layout_at_full_size(tmp_path, name):
    layout = LAYOUTS[name]
    files = {}
    for number, file in enumerate([*layout.train, *layout.test]):
        count = layout.train_count if file in layout.train else layout.test_count
        pixels = np.zeros((count, PIXELS), np.uint8)
        pixels[:, 0] = number + 1
        files[file] = (pixels, (np.arange(count) + number) % layout.num_classes)
    # Planted: a picture whose red rises by row, green by column, and whose blue is 7.
    rows, columns = np.mgrid[:32, :32]
    files[layout.train[0]][0][1] = np.stack([8 * rows, columns, np.full((32, 32), 7)]).reshape(-1)
    write_archive(tmp_path / name, members(layout, files))
    if isinstance(layout.batches, cifar.BinaryRecords):
        with tarfile.open(tmp_path / name) as archive:  # sizes of the published files
            sizes = {member.name: member.size for member in archive if member.name.endswith(".bin")}
        if layout.num_classes == 10:
            assert sizes == {
                f"cifar-10-batches-bin/{file}.bin": 30_730_000
                for file in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
            }
        else:
            assert sizes == {
                "cifar-100-binary/train.bin": 153_700_000,
                "cifar-100-binary/test.bin": 30_740_000,
            }

    found = pt.data.load(f"cifar{layout.num_classes}", root=tmp_path)
    assert found.train_images.shape == (50_000, 3, 32, 32)
    assert found.test_images.shape == (10_000, 3, 32, 32)
    assert found.num_classes == layout.num_classes
    labels = np.concatenate([files[file][1] for file in layout.train])
    np.testing.assert_array_equal(found.train_labels.numpy(), labels)
    np.testing.assert_array_equal(found.test_labels.numpy(), files[layout.test[0]][1])
    mean, deviation = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    planted = np.stack([8 * rows, columns, np.full((32, 32), 7)]) / 255
    for channel in range(3):
        np.testing.assert_allclose(
            found.train_images[1, channel].numpy(),
            (planted[channel] - mean[channel]) / deviation[channel],
            atol=2e-6,  # four roundings of float32 at values up to 2.6
        )
    first = [(number + 1) / 255 for number in range(len(layout.train) + 1)]
    np.testing.assert_allclose(
        found.train_images[:: layout.train_count, 0, 0, 0].numpy(),
        [(value - mean[0]) / deviation[0] for value in first[:-1]],
        atol=2e-6,
    )
    assert float(found.test_images[0, 0, 0, 0]) == pytest.approx(
        (first[-1] - mean[0]) / deviation[0], abs=2e-6
    )


def test_published_pickles_may_be_written_by_python_3_too(tmp_path):
    layout = small(cifar.CIFAR10_PYTHON, 20)
    files = images(layout)
    for protocol in (2, 4):
        write_archive(
            tmp_path / "a", python_members(layout, files, lambda values, p=protocol: pickle.dumps(values, p))
        )
        np.testing.assert_array_equal(
            read_cifar(tmp_path / "a", layout).train.images, whole(layout, files)[0]
        )


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_folder_that_was_unpacked_from_an_archive(tmp_path, name):
    layout = small(LAYOUTS[name], 120)
    files = images(layout)
    write_archive(tmp_path / name, members(layout, files))
    packed = read_cifar(tmp_path / name, layout)
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / name).unlink()
    found = read_cifar(tmp_path / layout.folder, layout)
    np.testing.assert_array_equal(found.train.images, packed.train.images)
    np.testing.assert_array_equal(found.test.labels, packed.test.labels)

    last = tmp_path / layout.folder / layout.test[0]
    with last.open("ab") as file:
        file.write(bytes(layout.batches.most(layout.test_count)))
    with pytest.raises(ValueError, match=f"{layout.test[0]}: must have at most"):
        read_cifar(tmp_path / layout.folder, layout)
    last.unlink()
    with pytest.raises(ValueError, match=f"{layout.test[0]}: is missing"):
        read_cifar(tmp_path / layout.folder, layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unpacked_folder_is_found(tmp_path, name):
    layout = LAYOUTS[name]
    folder = tmp_path / layout.folder
    folder.mkdir()
    for batch in (*layout.train, *layout.test):
        with pytest.raises(FileNotFoundError, match=r"published or unpacked, are cifar-10"):
            sources.find(f"cifar{layout.num_classes}", tmp_path)  # one is missing
        (folder / batch).touch()
    ((file, path),) = sources.find(f"cifar{layout.num_classes}", tmp_path)
    assert (file.name, path) == (name, folder)
    # An archive beside it is preferred, of either edition: gzip's checksum tells damage.
    for archive, other in LAYOUTS.items():
        if other.num_classes == layout.num_classes:
            (tmp_path / archive).touch()
            ((file, path),) = sources.find(f"cifar{layout.num_classes}", tmp_path)
            assert path == tmp_path / archive
            (tmp_path / archive).unlink()


def test_an_archive_without_compression(tmp_path):
    layout = small(cifar.CIFAR10_BINARY, 20)
    write_archive(tmp_path / "a", binary_members(layout, images(layout)))
    (tmp_path / "plain").write_bytes(gzip.decompress((tmp_path / "a").read_bytes()))
    assert len(read_cifar(tmp_path / "plain", layout).train.labels) == 100


BINARY, PYTHON = small(cifar.CIFAR10_BINARY, 20), small(cifar.CIFAR10_PYTHON, 20)
BATCH = "cifar-10-batches-bin/data_batch_3.bin"
PICKLE = "cifar-10-batches-py/data_batch_3"


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def file_named(name, size=1):
    info = tarfile.TarInfo(name)
    info.size = size
    return info


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (file_named("../outside"), r"'\.\./outside' leads out"),
        (file_named("cifar-10-batches-bin/../../outside"), "leads out"),
        (file_named("/tmp/outside"), "leads out"),
        (link("cifar-10-batches-bin/link", "/etc/passwd"), "neither a file nor a folder"),
        (link("cifar-10-batches-bin/link", BATCH, tarfile.LNKTYPE), "neither a file nor a folder"),
        (link("cifar-10-batches-bin/fifo", "", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (file_named(BATCH, 20 * 3073), f"{BATCH} is there twice"),
        (file_named("cifar-10-batches-bin/large", 1 << 23), "holds more bytes than the published archive"),
    ],
)
def test_hostile_members_are_refused(tmp_path, more, message):
    write_archive(tmp_path / "a", binary_members(BINARY, images(BINARY)), [more])
    with pytest.raises(ValueError, match=message):
        read_cifar(tmp_path / "a", BINARY)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_members_in_the_place_of_a_batch_are_refused(tmp_path):
    given = binary_members(BINARY, images(BINARY))
    del given[BATCH]
    write_archive(tmp_path / "a", given)
    with pytest.raises(ValueError, match=f"there is no {BATCH} in it"):
        read_cifar(tmp_path / "a", BINARY)
    folder = tarfile.TarInfo(BATCH)
    folder.type = tarfile.DIRTYPE
    for more, message in (
        (link(BATCH, "batches.meta.txt"), "neither a file nor a folder"),
        (folder, f"{BATCH} must be a file"),
        (file_named(BATCH, 20 * 3073 + 1), "must have at most 61460 bytes, not 61461"),
        (file_named(BATCH, 1 << 30), "must have at most 61460 bytes, not 1073741824"),
        (file_named(BATCH, 20 * 3073 - 1), f"{BATCH}: must have 61460 bytes, not 61459"),
    ):
        if more.size < 1 << 30:
            write_archive(tmp_path / "a", given, [more])
        else:  # the header alone: it is refused before what follows is looked at
            blocks = io.BytesIO()
            with tarfile.open(fileobj=blocks, mode="w") as archive:
                archive.addfile(more)
            (tmp_path / "a").write_bytes(gzip.compress(blocks.getvalue()))
        with pytest.raises(ValueError, match=message):
            read_cifar(tmp_path / "a", BINARY)


def test_headers_of_tar_are_bounded_too(tmp_path):
    info = tarfile.TarInfo("cifar-10-batches-bin/" + "n" * (1 << 23))  # a name of 8 MiB
    with tarfile.open(tmp_path / "a", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ValueError, match="holds more bytes"):
        read_cifar(tmp_path / "a", BINARY)


def test_damaged_archives_are_refused(tmp_path):
    write_archive(tmp_path / "a", binary_members(BINARY, images(BINARY)))
    data = (tmp_path / "a").read_bytes()
    plain = gzip.decompress(data)
    damaged = {
        "truncated": data[: len(data) // 2],
        "without its end": data[:-8],
        "another checksum": data[:-8] + b"\0\0\0\0" + data[-4:],
        "truncated tar": gzip.compress(plain[: len(plain) // 2], 1),
        "no tar": gzip.compress(b"no tar" * 1000),
        "no archive": b"<html>not found</html>",
        "empty": b"",
    }
    for content in damaged.values():
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"a: (truncated or damaged|not a whole tar archive|there is no)"
        ):
            read_cifar(tmp_path / "a", BINARY)


def test_labels_outside_the_classes_are_refused(tmp_path):
    given = binary_members(BINARY, images(BINARY))
    given[BATCH] = records(np.zeros((20, PIXELS)), np.full(20, 10))
    write_archive(tmp_path / "a", given)
    with pytest.raises(ValueError, match=f"{BATCH}: labels must lie in 0 ... 9, found 10"):
        read_cifar(tmp_path / "a", BINARY)


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    given = python_members(PYTHON, images(PYTHON))
    given[PICKLE] = pickle.dumps({b"data": _Runs(str(tmp_path / "ran")), b"labels": [0] * 20}, protocol=2)
    write_archive(tmp_path / "a", given)
    with pytest.raises(
        ValueError,
        match=f"{tmp_path / 'a'}: {PICKLE}: the pickle is refused: it names '(io|__builtin__|_io) open'",
    ):
        read_cifar(tmp_path / "a", PYTHON)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({b"labels": [0] * 20}, r"'data' must be an array \[20, 3072\]"),
        ({b"data": np.zeros((20, 3071), np.uint8), b"labels": [0] * 20}, "'data' must be an array"),
        ({b"data": np.zeros((20, PIXELS), np.int8), b"labels": [0] * 20}, "must be of unsigned bytes"),
        ({b"data": [0] * 20, b"labels": [0] * 20}, "'data' must be an array"),
        ({b"data": np.zeros((20, PIXELS), np.uint8)}, "'labels' must be a list of 20 integers"),
        ({b"data": np.zeros((20, PIXELS), np.uint8), b"labels": [0] * 19}, "'labels' must be a list"),
        ({b"data": np.zeros((20, PIXELS), np.uint8), b"labels": [b"0"] * 20}, "'labels' must be a list"),
        ({b"data": np.zeros((20, PIXELS), np.uint8), b"labels": [-1] * 20}, "labels must lie in 0 ... 9"),
        ({b"data": np.zeros((20, PIXELS), np.uint8), b"labels": [True] * 20}, "'labels' must be a list"),
    ],
)
def test_wrong_batches_are_named(tmp_path, batch, message):
    given = python_members(PYTHON, images(PYTHON))
    given[PICKLE] = python2_pickle(batch)
    write_archive(tmp_path / "a", given)
    with pytest.raises(ValueError, match=f"{tmp_path / 'a'}: {PICKLE}: .*{message}"):
        read_cifar(tmp_path / "a", PYTHON)
