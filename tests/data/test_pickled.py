import os
import pickle
import random
import struct

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
@pytest.mark.parametrize("text", [str, bytes])
def test_reads_what_pickle_writes(writer, text):
    def key(name):
        return name if text is str else name.encode()

    many = list(range(3000))  # written in several pieces
    values = {
        key("data"): ARRAY,
        key("labels"): many,
        key("name"): b"\x00\xff",
        key("one"): [7],
        key("none"): [None, True, -5, 70000],
    }
    found = read_pickle(WRITERS[writer](values))
    assert list(found) == ["data", "labels", "name", "one", "none"]
    np.testing.assert_array_equal(found["data"], ARRAY)
    assert found["data"].dtype == np.uint8
    assert found["labels"] == many
    assert found["name"] == b"\x00\xff"
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
@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, np.zeros, np.memmap, getattr])
def test_nothing_of_a_pickle_is_run(tmp_path, function, protocol):
    ran = str(tmp_path / "ran")
    arguments = {
        os.mkdir: [ran],
        os.system: [f"mkdir {ran}"],
        eval: [f"__import__('os').mkdir({ran!r})"],
        np.memmap: [ran, "uint8", "w+", 0, 1],
    }
    hostile = pickle.dumps({b"data": _Calls(function, *arguments.get(function, [1]))}, protocol=protocol)
    with pytest.raises(ValueError, match=r"the pickle is refused: it (names|uses)"):
        read_pickle(hostile)
    assert not os.path.exists(ran)
    if function in arguments:
        pickle.loads(hostile)  # which shows that the pickle would have
        assert os.path.exists(ran)


def _built(*parts):
    """Return a pickle of {"data": ...} put together by hand."""
    return b"\x80\x02}U\x04data" + b"".join(parts) + b"s."


ARRAY_OF = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
BYTE = b"cnumpy\ndtype\nU\x02u1\x85R"
HUGE = b"J\xff\xff\xff\x7f"  # 2^31 - 1
HOSTILE = {
    "GLOBAL": (_built(b"cos\nsystem\nU\x02ls\x85R"), "names 'os system'"),
    "STACK_GLOBAL": (_built(b"X\x02\0\0\0osX\x06\0\0\0system\x93U\x02ls\x85R"), "names 'os system'"),
    "builtins of Python 3": (_built(b"cbuiltins\neval\nU\x011\x85R"), "names 'builtins eval'"),
    "builtins of Python 2": (_built(b"c__builtin__\ngetattr\n"), "names '__builtin__ getattr'"),
    "a name of a name": (_built(b"cnumpy\ndtype.__class__\n"), "names 'numpy dtype.__class__'"),
    "another module's dtype": (_built(b"cos\ndtype\n"), "names 'os dtype'"),
    "NumPy's load": (_built(b"cnumpy\nload\n"), "names 'numpy load'"),
    "NumPy's scalar": (_built(b"cnumpy.core.multiarray\nscalar\n"), "names 'numpy.core.multiarray scalar'"),
    "REDUCE of text": (_built(b"U\x02osU\x06system\x85R"), "TypeError"),
    "INST": (_built(b"(U\x02lsios\nsystem\n"), "uses INST"),
    "OBJ": (_built(b"(cos\nsystem\nU\x02lso"), "uses OBJ"),
    "NEWOBJ": (_built(b"cnumpy\nndarray\n)\x81"), "uses NEWOBJ"),
    "NEWOBJ_EX": (_built(b"cnumpy\nndarray\n)}\x92"), "uses NEWOBJ_EX"),
    "PERSID": (_built(b"P1\n"), "uses PERSID"),
    "BINPERSID": (_built(b"K\x01Q"), "uses BINPERSID"),
    "EXT1": (_built(b"\x82\x01"), "uses EXT1"),
    "EXT2": (_built(b"\x83\x01\x00"), "uses EXT2"),
    "EXT4": (_built(b"\x84\x01\x00\x00\x00"), "uses EXT4"),
    "another class": (
        _built(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R"),
        "must be NumPy's ndarray",
    ),
    "no class": (_built(b"cnumpy.core.multiarray\n_reconstruct\n)R"), "TypeError"),
    "ndarray called": (_built(b"cnumpy\nndarray\n" + HUGE + b"\x85R"), "TypeError"),
    "an array without a state": (_built(ARRAY_OF), "its array has no elements"),
    "a state of no tuple": (_built(ARRAY_OF, b"K\x01b"), "TypeError"),
    "a state of no dtype": (_built(ARRAY_OF, b"(K\x01K\x02K\x03K\x04K\x05tb"), "must be of unsigned bytes"),
    "a huge shape to begin with": (
        _built(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n", HUGE, HUGE, b"\x86U\x01b\x87R"),
        "its array has no elements",
    ),
    "a huge shape": (_built(ARRAY_OF, b"(K\x01", HUGE, HUGE, b"\x86", BYTE, b"\x89U\x01atb"), "cannot reshape"),
    "too few elements": (_built(ARRAY_OF, b"(K\x01K\x02\x85", BYTE, b"\x89U\x01atb"), "cannot reshape"),
    "floats": (_built(b"cnumpy\ndtype\nU\x02f4\x85R"), "must be of unsigned bytes"),
    "objects": (_built(b"cnumpy\ndtype\nU\x02O8\x85R"), "must be of unsigned bytes"),
    "objects' elements": (_built(ARRAY_OF, b"(K\x01K\x01\x85", BYTE, b"\x89]K\x01atb"), "of unsigned bytes"),
    "a dtype of nothing": (_built(b"cnumpy\ndtype\n)R"), "TypeError"),
    "attributes of a class": (_built(b"cnumpy\ndtype\n}U\x01aK\x01sb"), "TypeError"),
    "attributes of text": (_built(b"U\x01a}U\x01aK\x01sb"), "AttributeError"),
    "nothing": (b"", "pickle exhausted"),
    "only an end": (b".", "stack underflow"),
    "a list": (b"\x80\x02]q\x00.", "a dict expected"),
    "no end": (b"\x80\x02}q\x00", "pickle exhausted"),
    "what was not stored": (b"\x80\x02}h\x07.", "neither text nor a name"),
    "a key without value": (b"\x80\x02}(U\x01au.", "odd number of items"),
    "items of a list": (b"\x80\x02](U\x01aU\x01bu.", "TypeError"),
    "a key that is a list": (b"\x80\x02}]K\x01s.", "TypeError"),
    "a key that is a number": (b"\x80\x02}K\x01K\x01s.", "a key that is no text"),
    "a length beyond the file": (b"\x80\x02}T\xff\xff\xff\x7fabc", "expected 2147483647 bytes"),
    "a negative length": (b"\x80\x02}T\xff\xff\xff\xffabc", "byte count < 0"),
    "a length of 8 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.", "expected 4611686018427387904"),
    "a frame beyond the file": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.", "truncated"),
    "a memo beyond the file": (b"\x80\x02}r\xff\xff\xff\x7f.", "stores a value at 2147483647"),
    "bytes after the end": (b"\x80\x02}.more", "4 bytes follow its end"),
    "a second pickle": (b"\x80\x02}." + b"cos\nsystem\n(U\x02lstR.", "bytes follow its end"),
    "another protocol": (b"\x80\xc8}.", "unsupported pickle protocol: 200"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_malformed_pickles_are_errors(kind):
    data, message = HOSTILE[kind]
    with pytest.raises(ValueError, match=rf"^(the pickle is refused|not a well-formed pickle).*({message})"):
        read_pickle(data)


def test_a_pickle_changes_nothing_that_the_next_one_meets():
    # BUILD sets attributes: of what a name stands for, if it is let.
    for name in (
        b"_codecs\nencode",
        b"numpy\ndtype",
        b"numpy\nndarray",
        b"numpy.core.multiarray\n_reconstruct",
    ):
        for state in (b"}U\x08__init__K\x01s", b"N}U\x08__init__K\x01s\x86"):
            try:
                read_pickle(_built(b"c" + name + b"\n" + state + b"b"))
            except ValueError:
                pass
            else:
                assert name == b"_codecs\nencode"
    for writer in WRITERS.values():
        np.testing.assert_array_equal(read_pickle(writer({b"data": ARRAY}))["data"], ARRAY)


@pytest.mark.parametrize("between", [b"", b"Nb", b"(e", b"(u"], ids=["plain", "BUILD", "APPENDS", "SETITEMS"])
def test_a_key_that_would_take_forever_to_hash_is_refused(between):
    # A pair of itself, 60 times over: hashing it visits 2^60 tuples. What stands between changes nothing.
    doubled = b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86" + between + b"q" + bytes([i + 1]) for i in range(60)
    )
    with pytest.raises(ValueError, match="uses a value twice that is neither text nor a name"):
        read_pickle(b"\x80\x02}q\xff)" + between + b"q\x00" + doubled + b"K\x01s.")


def test_a_key_that_would_overflow_the_stack_is_refused():
    with pytest.raises(ValueError, match="more than 64 tuples"):
        read_pickle(b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.")


def test_truncated_pickles_are_errors():
    for writer in WRITERS.values():
        whole = writer({b"data": ARRAY, b"labels": [1, 2]})
        for length in range(len(whole)):
            with pytest.raises(ValueError, match="pickle"):
                read_pickle(whole[:length])


def test_damaged_pickles_are_errors_or_read():
    random.seed(0)
    refused = 0
    for writer in WRITERS.values():
        whole = writer({b"data": ARRAY, b"labels": [1, 2]})
        for _ in range(1000):
            damaged = bytearray(whole)
            for _ in range(random.randint(1, 3)):
                damaged[random.randrange(len(whole))] = random.randrange(256)
            try:
                read_pickle(bytes(damaged))
            except ValueError:
                refused += 1
    assert 2000 < refused < 4000  # anything but a ValueError has ended the test
