import os
import pickle

import numpy as np
import pytest
from published import python2_pickle

from pythermo.data.pickled import read_pickle

ARRAY = np.arange(6, dtype=np.uint8).reshape(2, 3)
WRITERS = {
    "python 2": python2_pickle,
    "protocol 2": lambda values: pickle.dumps(values, protocol=2),
    "protocol 3": lambda values: pickle.dumps(values, protocol=3),
    "protocol 4": lambda values: pickle.dumps(values, protocol=4),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_reads_what_pickle_writes(writer):
    many = list(range(3000))  # written in several pieces
    values = {
        b"data": ARRAY,
        b"labels": many,
        b"name": b"\x00\xff",
        b"one": [7],
        b"none": [None, True, -5, 70000],
    }
    found = read_pickle(WRITERS[writer](values))
    assert list(found) == ["data", "labels", "name", "one", "none"]
    np.testing.assert_array_equal(found["data"], ARRAY)
    assert found["labels"] == many
    assert found["name"] == "\x00\xff"
    assert (found["one"], found["none"]) == ([7], [None, True, -5, 70000])


@pytest.mark.parametrize("writer", WRITERS)
def test_arrays_in_fortran_s_order(writer):
    found = read_pickle(WRITERS[writer]({b"data": np.asfortranarray(ARRAY)}))
    np.testing.assert_array_equal(found["data"], ARRAY)


def test_the_writer_of_these_tests_writes_what_python_2_wrote():
    # The beginning of a batch of CIFAR-10, and what Python's own pickle makes of such bytes.
    written = python2_pickle({"labels": [6, 9], "data": ARRAY})
    assert written.startswith(b"\x80\x02}q\x00(U\x06labelsq\x01]q\x02(K\x06K\t")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in written
    assert b"cnumpy\ndtype\n" in written
    own = pickle.loads(written, encoding="bytes")
    np.testing.assert_array_equal(own[b"data"], ARRAY)


class _Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, np.zeros, getattr])
def test_nothing_of_a_pickle_is_run(tmp_path, function, protocol):
    arguments = {
        os.mkdir: [str(tmp_path / "run")],
        eval: [f"__import__('os').mkdir({str(tmp_path / 'run')!r})"],
    }
    hostile = pickle.dumps({b"data": _Calls(function, *arguments.get(function, [1]))}, protocol=protocol)
    with pytest.raises(ValueError, match=r"the pickle (names|uses)"):
        read_pickle(hostile)
    assert not (tmp_path / "run").exists()
    if function in arguments:
        pickle.loads(hostile)  # which shows that the pickle would have
        assert (tmp_path / "run").exists()


def _built(*parts):
    """Return a pickle of {"data": ...} put together by hand."""
    return b"\x80\x02}U\x04data" + b"".join(parts) + b"s."


NAMED = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "pickle exhausted"),
        (b".", "IndexError"),
        (b"\x80\x02]q\x00.", "a dict expected"),
        (b"\x80\x02}q\x00", "pickle exhausted"),
        (b"\x80\x02}h\x07.", "KeyError"),
        (b"\x80\x02}T\xff\xff\xff\x7fabc", "expected 2147483647 bytes"),
        (b"\x80\x02}T\xff\xff\xff\xffabc", "byte count < 0"),
        (b"\x80\x02](U\x01aU\x01bu.", "dict expected"),
        (b"\x80\x02}(U\x01au.", "shorter"),
        (b"\x80\x02}]K\x01s.", "a key that is no text"),
        (b"\x80\x02}cos\nsystem\n.", "names 'os system'"),
        (b"\x80\x02}cnumpy\ndtype.__class__\n.", "names 'numpy dtype.__class__'"),
        (b"\x80\x02}K\x01K\x02R.", "a call of what is no name"),
        (b"\x80\x02}K\x01K\x02b.", "_Object expected"),
        (_built(NAMED, b")R"), "holds something that is no array"),
        (_built(NAMED, b")RK\x01b"), "TypeError"),
        (_built(NAMED, b")R(K\x01K\x02K\x03K\x04K\x05tb"), "AttributeError"),
        (_built(NAMED, b")R(K\x01K\x02cnumpy\ndtype\n)R\x89U\x01atb"), "IndexError"),
        (_built(NAMED, b")R(K\x01K\x02cnumpy\ndtype\nU\x02f4\x85R\x89U\x01atb"), "must be of unsigned bytes"),
        (_built(NAMED, b")R(K\x01K\x02cnumpy\ndtype\nU\x02u1\x85R\x89U\x01atb"), "cannot reshape"),
        (_built(NAMED, b")R(K\x01K\x01cnumpy\ndtype\nU\x02u1\x85R\x89K\x01tb"), "AttributeError"),
    ],
)
def test_malformed_pickles_are_errors(data, message):
    with pytest.raises(ValueError, match=message):
        read_pickle(data)


def test_a_key_that_would_take_for_ever_to_hash_is_refused():
    # A pair of itself, 60 times over: hashing it visits 2^60 tuples.
    doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    with pytest.raises(ValueError, match="a key that is no text"):
        read_pickle(b"\x80\x02}q\xff)q\x00" + doubled + b"h\xffh\x3cK\x01s.")
