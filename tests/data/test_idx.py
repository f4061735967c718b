import gzip
import re
import tracemalloc

import numpy as np
import pytest
from published import write_idx

from pythermo.data.fashion_mnist import read_labels
from pythermo.data.idx import read_idx

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("shape", [(24,), (2, 3, 4), (6, 4)])
def test_reads_what_was_written(tmp_path, shape, zipped):
    write_idx(tmp_path / "idx", ARRAY.reshape(shape), zipped=zipped)
    found = read_idx(tmp_path / "idx", shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ARRAY.reshape(shape))


def test_the_bytes_of_the_format(tmp_path):
    # MNIST's own header of 2 images of 1x3 pixels: 2051, 2, 1, 3.
    (tmp_path / "idx").write_bytes(bytes.fromhex("00000803 00000002 00000001 00000003 010203040506"))
    assert read_idx(tmp_path / "idx", (2, 1, 3)).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"magic": 0x801}, "the magic number must be 0x00000803, not 0x00000801"),
        ({"magic": 0xD03}, "the magic number must be 0x00000803, not 0x00000d03"),  # float32
        ({"sizes": (3, 3, 4)}, r"must hold an array \[2, 3, 4\], not \[3, 3, 4\]"),
        ({"sizes": (2**32 - 1, 3, 4)}, r"must hold an array \[2, 3, 4\], not \[4294967295, 3, 4\]"),
        ({"array": ARRAY.reshape(-1)[:-1], "magic": 0x803, "sizes": (2, 3, 4)}, "holds fewer than the 24"),
        ({"array": np.arange(25), "magic": 0x803, "sizes": (2, 3, 4)}, "holds more than the 24"),
        ({"array": np.zeros(0), "sizes": ()}, "truncated"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, arguments, message, zipped):
    write_idx(tmp_path / "idx", **{"array": ARRAY, **arguments}, zipped=zipped)
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'idx'))}: .*{message}"):
        read_idx(tmp_path / "idx", (2, 3, 4))


def test_damaged_compression_is_an_error(tmp_path):
    write_idx(tmp_path / "idx", ARRAY)
    whole = (tmp_path / "idx").read_bytes()
    for damaged in (
        whole[:-9],
        whole[:-1],
        whole[:-5] + b"\0" + whole[-4:],
        whole[:12] + b"\xff" + whole[13:],
    ):
        (tmp_path / "idx").write_bytes(damaged)
        with pytest.raises(ValueError, match="truncated or damaged"):
            read_idx(tmp_path / "idx", (2, 3, 4))


def test_no_more_is_decompressed_than_fits(tmp_path):
    write_idx(tmp_path / "idx", ARRAY, zipped=False)
    bomb = gzip.compress((tmp_path / "idx").read_bytes() + bytes(1 << 26), 1)
    (tmp_path / "idx").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than the 24"):
            read_idx(tmp_path / "idx", (2, 3, 4))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22  # gzip reads ahead by some 100 kB; the bomb has 64 MiB


def test_labels_lie_in_range(tmp_path):
    write_idx(tmp_path / "idx", np.array([0, 9, 10]))
    with pytest.raises(ValueError, match=r"idx: labels must lie in 0 \.\.\. 9, found 10"):
        read_labels(tmp_path / "idx", 3)
