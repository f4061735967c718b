import gzip
import hashlib
import http.server
import re
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest
from published import binary_members, images, python_members, small, write_archive, write_idx
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import app
from pythermo.data import cifar, sources
from pythermo.data.sources import DATA_SETS, PublishedFile

BINARY, PYTHON = small(cifar.CIFAR10_BINARY, 20), small(cifar.CIFAR10_PYTHON, 20)


class Server(http.server.ThreadingHTTPServer):
    """Serves files by name on loopback, and remembers what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.moved = {}
        self.ranges = []
        self.stops_after = None  # closes the connection after so many bytes
        self.knows_ranges = True
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        if self.path[1:] in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[self.path[1:]])
            self.end_headers()
            return
        content = server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.knows_ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.stops_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where fetched files go: empty, and no set is installed."""
    monkeypatch.setenv("PYTHERMO_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(
        DATA_SETS,
        "fashion-mnist",
        replace(DATA_SETS["fashion-mnist"], installed=tmp_path / "none"),
    )
    return tmp_path / "cache"


def published(monkeypatch, server, contents):
    """Let cifar10 be published on the server as the given archives, in this order, of 20 images a file."""
    layouts = {"cifar-10-binary.tar.gz": BINARY, "cifar-10-python.tar.gz": PYTHON}
    editions = tuple(
        (
            PublishedFile(
                name,
                hashlib.md5(data).hexdigest(),
                len(data),
                lambda path, layout=layouts[name]: cifar.read_cifar(path, layout),
            ),
        )
        for name, data in contents.items()
    )
    monkeypatch.setitem(
        DATA_SETS, "cifar10", replace(DATA_SETS["cifar10"], url=server.url, editions=editions)
    )
    server.files.update(contents)


def archive(tmp_path, layout=BINARY, more=()):
    members = binary_members if layout is BINARY else python_members
    write_archive(tmp_path / "made", members(layout, images(layout)), more)
    data = (tmp_path / "made").read_bytes()
    (tmp_path / "made").unlink()
    return data


@pytest.fixture
def content(tmp_path, server, folder, monkeypatch):
    """The archive that the server has, and that is published."""
    data = archive(tmp_path)
    published(monkeypatch, server, {"cifar-10-binary.tar.gz": data})
    return data


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetched_and_loaded(content, server, folder):
    assert pt.data.fetch("cifar10") == [folder / "cifar-10-binary.tar.gz"]
    assert kept(folder) == ["cifar-10-binary.tar.gz"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content
    assert pt.data.load("cifar10").train_images.shape == (100, 3, 32, 32)
    assert server.ranges == [None]
    pt.data.fetch("cifar10")  # it is there: nothing is asked for
    assert server.ranges == [None]
    (folder / "cifar-10-binary.tar.gz").write_bytes(content[:-1])
    pt.data.fetch("cifar10")  # it is damaged: brought anew
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


def test_an_interrupted_download_goes_on(content, server, folder):
    server.stops_after = 70_000
    with pytest.raises(ConnectionError, match="called again, it goes on from there"):
        pt.data.fetch("cifar10")
    assert kept(folder) == ["cifar-10-binary.tar.gz.part"]
    assert (folder / "cifar-10-binary.tar.gz.part").read_bytes() == content[:70_000]
    with pytest.raises(FileNotFoundError):
        pt.data.load("cifar10")
    with pytest.raises(ConnectionError):
        pt.data.fetch("cifar10")
    server.stops_after = None
    pt.data.fetch("cifar10")
    assert server.ranges == [None, "bytes=70000-", "bytes=140000-"]
    assert kept(folder) == ["cifar-10-binary.tar.gz"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


def test_a_server_without_ranges_sends_all_anew(content, server, folder):
    server.knows_ranges = False
    server.stops_after = 70_000
    with pytest.raises(ConnectionError):
        pt.data.fetch("cifar10")
    server.stops_after = None
    pt.data.fetch("cifar10")
    assert server.ranges == [None, "bytes=70000-"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


def test_a_whole_part_is_not_downloaded_again(content, server, folder):
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz.part").write_bytes(content)
    pt.data.fetch("cifar10")
    assert server.ranges == []
    assert kept(folder) == ["cifar-10-binary.tar.gz"]


def test_a_part_of_another_file_is_refused_and_forgotten(content, server, folder):
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz.part").write_bytes(b"other" + content[5:1000])
    with pytest.raises(ValueError, match="refused; it has MD5"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []
    pt.data.fetch("cifar10")
    assert kept(folder) == ["cifar-10-binary.tar.gz"]


DAMAGES = {
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "truncated": lambda data: data[: len(data) // 2],  # which the server calls whole
    "one byte more": lambda data: data + b"\0",
    "a megabyte more": lambda data: data + bytes(1 << 20),
    "empty": lambda data: b"",
    "a page": lambda data: b"<html>moved</html>",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("local", [False, True], ids=["server", "file"])
def test_anything_but_the_published_file_is_refused(content, server, folder, tmp_path, damage, local):
    server.files["cifar-10-binary.tar.gz"] = damage(content)
    given = tmp_path / "cifar-10-binary.tar.gz"
    given.write_bytes(damage(content))
    with pytest.raises(ValueError, match="refused"):
        pt.data.fetch("cifar10", source=given if local else None)
    assert kept(folder) == []
    assert given.exists()


def test_no_more_is_downloaded_than_is_published(content, server, folder):
    server.files["cifar-10-binary.tar.gz"] = content + bytes(1 << 20)
    with pytest.raises(ValueError, match=f"larger than the published {len(content)} bytes"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []


def test_a_download_goes_on_where_the_server_says_that_the_file_has_moved_to(content, server, folder):
    server.files["moved"] = server.files.pop("cifar-10-binary.tar.gz")
    server.moved["cifar-10-binary.tar.gz"] = f"{server.url}moved"
    server.stops_after = 70_000
    with pytest.raises(ConnectionError):
        pt.data.fetch("cifar10")
    server.stops_after = None
    pt.data.fetch("cifar10")
    assert server.ranges == [None, None, "bytes=70000-", "bytes=70000-"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content


def test_what_is_refused_replaces_nothing(content, server, folder):
    folder.mkdir()
    # Packed anew, as systems' packages are: read as it is, replaced by a checked file alone.
    packed_anew = gzip.compress(gzip.decompress(content), 9)
    (folder / "cifar-10-binary.tar.gz").write_bytes(packed_anew)
    server.files["cifar-10-binary.tar.gz"] = b"other"
    with pytest.raises(ValueError, match="refused"):
        pt.data.fetch("cifar10")
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == packed_anew
    assert len(pt.data.load("cifar10").train_labels) == 100


def test_a_part_that_is_longer_than_the_server_s_file_is_forgotten(content, server, folder):
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz.part").write_bytes(content[:-1])
    server.files["cifar-10-binary.tar.gz"] = content[:1000]
    with pytest.raises(ConnectionError, match="416"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []


def test_a_hostile_archive_of_the_right_checksum_is_refused(server, folder, tmp_path, monkeypatch):
    outside = tarfile.TarInfo("../../outside")
    outside.size = 5
    large = tarfile.TarInfo("cifar-10-batches-bin/large")
    large.size = 1 << 23
    symlink = tarfile.TarInfo("cifar-10-batches-bin/link")
    symlink.type, symlink.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for more, message in ((outside, "leads out"), (large, "holds more bytes"), (symlink, "neither a file")):
        data = archive(tmp_path, BINARY, [more])
        published(monkeypatch, server, {"cifar-10-binary.tar.gz": data})
        with pytest.raises(ValueError, match=message):
            pt.data.fetch("cifar10")
        assert kept(folder) == []
        assert not list(tmp_path.parent.rglob("outside"))


def test_what_is_missing_on_the_server_is_said(content, server, folder):
    server.files.clear()
    with pytest.raises(ConnectionError, match=r"cifar-10-binary.tar.gz: HTTP Error 404"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []


def test_a_server_that_is_not_there(content, server, folder):
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/cifar"):
        pt.data.fetch("cifar10", source="http://127.0.0.1:9")


def test_from_a_file_a_folder_a_url(content, server, folder, tmp_path, monkeypatch):
    python = archive(tmp_path, PYTHON)
    published(monkeypatch, server, {"cifar-10-binary.tar.gz": content, "cifar-10-python.tar.gz": python})
    given = tmp_path / "given"
    given.mkdir()
    (given / "cifar-10-python.tar.gz").write_bytes(python)
    for number, source in enumerate(
        [given, given / "cifar-10-python.tar.gz", f"{server.url}cifar-10-python.tar.gz"]
    ):
        root = tmp_path / f"root{number}"
        assert pt.data.fetch("cifar10", source, root) == [root / "cifar-10-python.tar.gz"]
        assert (root / "cifar-10-python.tar.gz").read_bytes() == python
    assert pt.data.fetch("cifar10", server.url, tmp_path / "root") == [
        tmp_path / "root" / "cifar-10-binary.tar.gz"
    ]
    assert (given / "cifar-10-python.tar.gz").read_bytes() == python


def test_fashion_mnist_has_four_files(server, folder, tmp_path, monkeypatch):
    data_set = DATA_SETS["fashion-mnist"]
    given = tmp_path / "given"
    given.mkdir()
    random = np.random.default_rng(0)
    files = []
    for file in data_set.editions[0]:
        count = 20 if file.name.startswith("train") else 10
        shape = (count, 28, 28) if "images" in file.name else (count,)
        array = random.integers(0, 256, shape) if "images" in file.name else np.arange(count) % 10
        write_idx(given / file.name, array)
        data = server.files[file.name] = (given / file.name).read_bytes()
        files.append(
            replace(
                file,
                md5=hashlib.md5(data).hexdigest(),
                size=len(data),
                read=lambda path, read=file.read.func, count=count: read(path, count),
            )
        )
    monkeypatch.setitem(
        DATA_SETS, "fashion-mnist", replace(data_set, url=server.url, editions=(tuple(files),))
    )
    for source in (None, given, server.url):
        root = tmp_path / f"root{'' if source is None else len(str(source))}"
        assert len(pt.data.fetch("fashion-mnist", source, root)) == 4
        assert pt.data.load("fashion-mnist", root).train_labels.tolist() == [*range(10), *range(10)]
    with pytest.raises(ValueError, match="--from: must be the folder of all 4 files"):
        pt.data.fetch("fashion-mnist", given / "t10k-labels-idx1-ubyte.gz")


@pytest.mark.parametrize(
    ("name", "source", "error", "message"),
    [
        ("digits", None, ValueError, "digits comes with scikit-learn"),
        ("imagenet", None, ValueError, "known: fashion-mnist, cifar10, cifar100"),
        ("cifar10", "nowhere", FileNotFoundError, "nowhere is no folder that holds cifar-10-binary.tar.gz"),
        ("cifar10", __file__, ValueError, "the file must be named cifar-10-binary.tar.gz"),
    ],
)
def test_wrong_arguments_are_named(folder, name, source, error, message):
    with pytest.raises(error, match=message):
        pt.data.fetch(name, source)


def test_missing_data_say_how_to_get_them(folder):
    for name in DATA_SETS:
        with pytest.raises(FileNotFoundError, match=f"`pythermo data fetch {name}` downloads it") as found:
            pt.data.load(name)
        assert str(folder) in str(found.value)


def test_the_folder_is_in_the_user_s_cache_if_none_is_chosen(monkeypatch):
    monkeypatch.delenv("PYTHERMO_DATA", raising=False)
    assert "pythermo" in sources.data_folder().parts


def test_the_command_line(content, server, folder, tmp_path):
    listed = CliRunner().invoke(app, ["data", "list"])
    assert listed.exit_code == 0
    assert re.search(r"digits .* comes with scikit-learn", listed.output)
    assert re.search(r"cifar10 .*3x32x32 .*50000 \+ 10000 .*`pythermo data fetch cifar10`", listed.output)
    fetched = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--root", str(tmp_path / "root")])
    assert fetched.exit_code == 0
    assert str(tmp_path / "root" / "cifar-10-binary.tar.gz") in fetched.output
    listed = CliRunner().invoke(app, ["data", "list", "--root", str(tmp_path / "root")])
    assert re.search(rf"cifar10 .*{tmp_path / 'root'}", listed.output)
    server.files["cifar-10-binary.tar.gz"] = b"other"
    refused = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--from", server.url])
    assert refused.exit_code == 1
    assert "refused; it has MD5" in refused.output
    server.stops_after = 1
    server.files["cifar-10-binary.tar.gz"] = content
    interrupted = CliRunner().invoke(app, ["data", "fetch", "cifar10"])
    assert interrupted.exit_code == 1
    assert "goes on from there" in interrupted.output
