import contextlib
import gzip
import hashlib
import http.server
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from published import binary_members, images, python_members, small, write_archive, write_idx
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import app
from pythermo.data import cifar, sources
from pythermo.data.sources import DATA_SETS, PublishedFile

ARCHIVE = "cifar-10-binary.tar.gz"
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
BINARY, PYTHON = small(cifar.CIFAR10_BINARY, 20), small(cifar.CIFAR10_PYTHON, 20)


class Server(http.server.ThreadingHTTPServer):
    """Serves files by name on loopback, and remembers what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.moved = {}
        self.asked = []
        self.stops_after = []  # closes the connection of the first requests after so many bytes each
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path[1:]
        server.asked.append(name)
        if name in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[name])
            self.end_headers()
            return
        content = server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: server.stops_after.pop(0) if server.stops_after else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # before it tries again
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
    layouts = {ARCHIVE: BINARY, PYTHON_ARCHIVE: PYTHON}
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
    published(monkeypatch, server, {ARCHIVE: data})
    return data


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetched_and_loaded(content, server, folder):
    assert pt.data.fetch("cifar10") == [folder / ARCHIVE]
    assert kept(folder) == [ARCHIVE]
    assert (folder / ARCHIVE).read_bytes() == content
    assert pt.data.load("cifar10").train_images.shape == (100, 3, 32, 32)
    assert server.asked == [ARCHIVE]
    pt.data.fetch("cifar10")  # it is there: nothing is asked for
    assert server.asked == [ARCHIVE]
    (folder / ARCHIVE).write_bytes(content[:-1])
    pt.data.fetch("cifar10")  # it is damaged: brought anew
    assert (folder / ARCHIVE).read_bytes() == content


def test_a_fetched_file_can_be_read_by_those_who_share_the_folder(content, folder):
    (path,) = pt.data.fetch("cifar10")
    assert path.stat().st_mode & 0o444 == 0o444


def test_an_interrupted_download_is_tried_again(content, server, folder):
    server.stops_after = [70_000, 0]
    pt.data.fetch("cifar10")
    assert server.asked == [ARCHIVE] * 3
    assert kept(folder) == [ARCHIVE]
    assert (folder / ARCHIVE).read_bytes() == content


def test_an_interrupted_download_leaves_nothing_in_the_end(content, server, folder):
    server.stops_after = [70_000] * 3
    with pytest.raises(ConnectionError, match=rf"{server.url}{ARCHIVE}: .*Try again, or .* by --from"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []
    with pytest.raises(FileNotFoundError):
        pt.data.load("cifar10")


FETCHES = """
import sys
from dataclasses import replace
from pythermo.data import fetch
from pythermo.data.sources import DATA_SETS

url, md5, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
(file,) = DATA_SETS["cifar10"].editions[0]
edition = (replace(file, md5=md5, size=size),)
DATA_SETS["cifar10"] = replace(DATA_SETS["cifar10"], url=url, editions=(edition,))
print("ready", flush=True)
sys.stdin.readline()
fetch("cifar10")
"""


def test_four_processes_at_once_bring_the_same_file(content, server, folder):
    arguments = [server.url, hashlib.md5(content).hexdigest(), str(len(content))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCHES, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    with contextlib.ExitStack() as ends:
        for process in processes:
            ends.enter_context(process)
            ends.callback(process.kill)
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    assert kept(folder) == [ARCHIVE]
    assert (folder / ARCHIVE).read_bytes() == content


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
    server.files[ARCHIVE] = damage(content)
    given = tmp_path / ARCHIVE
    given.write_bytes(damage(content))
    with pytest.raises(ValueError, match="refused"):
        pt.data.fetch("cifar10", source=given if local else None)
    assert kept(folder) == []
    assert given.exists()


def test_no_more_is_downloaded_than_is_published(content, server, folder):
    server.files[ARCHIVE] = content + bytes(1 << 20)
    with pytest.raises(ValueError, match=f"larger than the published {len(content)} bytes"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []


def test_a_file_that_has_moved_is_followed(content, server, folder):
    server.files["moved"] = server.files.pop(ARCHIVE)
    server.moved[ARCHIVE] = f"{server.url}moved"
    pt.data.fetch("cifar10")
    assert server.asked == [ARCHIVE, "moved"]
    assert (folder / ARCHIVE).read_bytes() == content


def test_what_is_refused_replaces_nothing(content, server, folder):
    folder.mkdir()
    # Packed anew, as systems' packages are: read as it is, replaced by a checked file alone.
    packed_anew = gzip.compress(gzip.decompress(content), 9)
    (folder / ARCHIVE).write_bytes(packed_anew)
    server.files[ARCHIVE] = b"other"
    with pytest.raises(ValueError, match="refused"):
        pt.data.fetch("cifar10")
    assert (folder / ARCHIVE).read_bytes() == packed_anew
    assert len(pt.data.load("cifar10").train_labels) == 100


def test_what_is_missing_on_the_server_is_said(content, server, folder):
    server.files.clear()
    with pytest.raises(ConnectionError, match=rf"{server.url}{ARCHIVE}: 404 .*--from"):
        pt.data.fetch("cifar10")
    assert kept(folder) == []


def test_a_server_that_is_not_there(content, server, folder):
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9/cifar"):
        pt.data.fetch("cifar10", source="http://127.0.0.1:9")


def test_from_a_file_a_folder_a_url(content, server, folder, tmp_path, monkeypatch):
    python = archive(tmp_path, PYTHON)
    published(monkeypatch, server, {ARCHIVE: content, PYTHON_ARCHIVE: python})
    given = tmp_path / "given"
    given.mkdir()
    (given / PYTHON_ARCHIVE).write_bytes(python)
    for number, source in enumerate([given, given / PYTHON_ARCHIVE, f"{server.url}cifar-10-python.tar.gz"]):
        root = tmp_path / f"root{number}"
        assert pt.data.fetch("cifar10", source, root) == [root / PYTHON_ARCHIVE]
        assert (root / PYTHON_ARCHIVE).read_bytes() == python
    assert pt.data.fetch("cifar10", server.url, tmp_path / "root") == [tmp_path / "root" / ARCHIVE]
    assert (given / PYTHON_ARCHIVE).read_bytes() == python


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
    with pytest.raises(
        ValueError, match=r"--from: must be train-images-idx3-ubyte\.gz, .* or a folder that holds them"
    ):
        pt.data.fetch("fashion-mnist", given / "t10k-labels-idx1-ubyte.gz")


@pytest.mark.parametrize(
    ("name", "source", "error", "message"),
    [
        ("digits", None, ValueError, "digits comes with scikit-learn"),
        ("imagenet", None, ValueError, "known: fashion-mnist, cifar10, cifar100"),
        ("cifar10", "nowhere", FileNotFoundError, "--from: nowhere is not there"),
        ("cifar10", f"/nowhere/{ARCHIVE}", FileNotFoundError, f"--from: /nowhere/{ARCHIVE} is not there"),
        ("cifar10", __file__, ValueError, "must be cifar-10-binary.tar.gz or cifar-10-python.tar.gz"),
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


def test_the_folder_is_in_the_user_s_cache_if_none_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHERMO_DATA", "")
    assert sources.data_folder() == tmp_path / "pythermo"


def test_the_command_line(content, server, folder, tmp_path):
    listed = CliRunner().invoke(app, ["data", "list"])
    assert listed.exit_code == 0
    assert re.search(r"digits .* comes with scikit-learn", listed.output)
    assert re.search(r"cifar10 .*3x32x32 .*50000 \+ 10000 .*`pythermo data fetch cifar10`", listed.output)
    fetched = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--root", str(tmp_path / "root")])
    assert fetched.exit_code == 0
    assert str(tmp_path / "root" / ARCHIVE) in fetched.output
    listed = CliRunner().invoke(app, ["data", "list", "--root", str(tmp_path / "root")])
    assert re.search(rf"cifar10 .*{tmp_path / 'root'}", listed.output)
    server.files[ARCHIVE] = b"other"
    refused = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--from", server.url])
    assert refused.exit_code == 1
    assert f"{server.url}cifar-10-binary.tar.gz: refused; it has 5 bytes" in refused.output
    server.stops_after = [1] * 3
    server.files[ARCHIVE] = content
    interrupted = CliRunner().invoke(app, ["data", "fetch", "cifar10"])
    assert interrupted.exit_code == 1
    assert "Try again" in interrupted.output


def test_the_home_folder_may_be_called_by_its_sign(content, server, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / ARCHIVE).write_bytes(content)
    assert pt.data.fetch("cifar10", "~/given", "~/root") == [tmp_path / "root" / ARCHIVE]
    assert pt.data.fetch("cifar10", f"~/given/{ARCHIVE}", "~/root2") == [tmp_path / "root2" / ARCHIVE]
    assert len(pt.data.load("cifar10", "~/root").train_labels) == 100
    assert sources.find("cifar10", Path("~/root"))[0][1] == tmp_path / "root" / ARCHIVE
    monkeypatch.setenv("PYTHERMO_DATA", "~/cache")
    assert sources.data_folder() == tmp_path / "cache"
    assert server.asked == []


def test_a_place_where_the_file_cannot_be_is_refused_before_the_download(content, server, folder, tmp_path):
    (tmp_path / "file").touch()
    (folder / ARCHIVE).mkdir(parents=True)
    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none"), Path("/proc"), folder):
        with pytest.raises(
            OSError, match=f"{root / ARCHIVE}: not written .*PYTHERMO_DATA names another folder"
        ):
            pt.data.fetch("cifar10", root=root)
    assert server.asked == []


def test_a_bar_is_drawn_on_a_terminal_alone(content, folder, tmp_path, capfd, monkeypatch):
    pt.data.fetch("cifar10")
    assert "100%|" not in capfd.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    pt.data.fetch("cifar10", root=tmp_path / "other")
    assert f"{ARCHIVE}: 100%|" in capfd.readouterr().err
