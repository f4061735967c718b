"""Files are doors too: where results go, and what is said of files that cannot be read."""

import errno
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tiny import TINY

import pythermo as pt
from pythermo import figures
from pythermo.sweeps import files
from pythermo.sweeps.run import CHECKPOINT
from pythermo.sweeps.setups import read_setups
from pythermo.sweeps.snapshots import MEASUREMENTS
from pythermo.sweeps.sweep import SWEEP
from pythermo.training.trainer import Trainer


def quiet(*_):
    pass


def sweep(folder, lr=(0.01,), **more):
    with ThreadPoolExecutor(1) as one:
        return pt.sweep(TINY, lr, folder, executor=one, **more)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse_writing(monkeypatch):
    """Let no file be made, as in a folder of someone else's; root may write anywhere."""
    real_open, real_mkdir = Path.open, Path.mkdir

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def opened(self, mode="r", *arguments, **more):
        return refuse(self) if set(mode) & set("wax+") else real_open(self, mode, *arguments, **more)

    def made(self, *arguments, **more):
        return real_mkdir(self, *arguments, **more) if self.is_dir() else refuse(self)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "mkdir", made)
    monkeypatch.setattr(Path, "unlink", lambda self, **_: refuse(self))
    monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda dir: refuse(dir))
    monkeypatch.setattr(files, "write_whole", lambda path, _: refuse(path))


def test_home_is_found_at_each_door(home):
    run = pt.run(TINY, "~/run", report=quiet)
    assert pt.run(TINY, home / "run").identical(run)
    assert pt.load_network("~/run").training
    swept = sweep("~/sweep")
    assert pt.load_sweep("~/sweep").identical(swept)
    assert pt.load_sweep(f"~/sweep/{SWEEP}").identical(swept)
    shutil.copy(Path(pt.__file__).parent / "config/presets/digits-up.toml", home / "mine.toml")
    assert pt.Preset.load("~/mine.toml") == pt.Preset.load("digits-up")
    assert figures.save(Figure(), "~/drawn") == [home / "drawn.png", home / "drawn.pdf"]
    with pytest.raises(FileNotFoundError, match=f"out: {home}/run is the folder of a run"):
        read_setups("~/run")
    assert not (home / "~").exists()


def never(*_):
    pytest.fail("computed before its destination was looked at")


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/nowhere"])
def test_destinations_are_looked_at_before_the_work(tmp_path, monkeypatch, name):
    (tmp_path / "file").touch()
    monkeypatch.setattr(Trainer, "__init__", never)
    place = tmp_path / name
    for call in (lambda: pt.run(TINY, place), lambda: sweep(place)):
        with pytest.raises(OSError, match=rf"out: {place} cannot be a folder for files .*name another"):
            call()
    with pytest.raises(
        OSError, match=rf"path: {place}/figure.png cannot be written .*name a file in a folder"
    ):
        figures.save(Figure(), place / "figure")


@pytest.mark.parametrize("study", ["toy", "calibration", "lemma"])
def test_studies_look_at_their_destination_first(tmp_path, study):
    place = tmp_path / "file"
    place.touch()
    said = pythermo("reproduce", study, "--out", str(place))
    assert f"out: {place} cannot be a folder for files" in said


@pytest.mark.parametrize("place", ["nowhere/chains.nc", ".", "/proc/nowhere.nc"])
def test_simulate_looks_at_its_destination_first(tmp_path, place):
    said = pythermo("simulate", str(tmp_path / place), "--steps", "1000000000000")
    assert f"OUT: {tmp_path / place} cannot be written" in said


def pythermo(*arguments):
    """Return what a command that fails says, in a line."""
    command = [sys.executable, "-m", "pythermo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_finished_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    run = pt.run(TINY, tmp_path / "run", report=quiet)
    swept = sweep(tmp_path / "sweep", [0.01, 0.02])
    refuse_writing(monkeypatch)
    assert pt.run(TINY, tmp_path / "run").identical(run)
    assert sweep(tmp_path / "sweep", [0.01, 0.02]).identical(swept)
    assert sweep(tmp_path / "sweep", [0.01]).identical(swept.sel(lr=[0.01]))
    assert pt.load_sweep(tmp_path / "sweep").identical(swept)
    monkeypatch.setattr(Trainer, "__init__", never)
    with pytest.raises(PermissionError, match=rf"out: {tmp_path}/sweep cannot be a folder for files"):
        sweep(tmp_path / "sweep", [0.01, 0.03])


GARBAGE = {"empty": b"", "text": b"garbage \xff", "half": None}


def damage(path, how):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if how == "half" else GARBAGE[how])


@pytest.mark.parametrize("how", GARBAGE)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, how):
    sweep(tmp_path)
    run = tmp_path / pt.Member(0.01, 0).folder
    config = TINY.changed(lr=0.01)
    weights = run / "weights-15.pt"
    damage(weights, how)
    with pytest.raises(ValueError, match=rf"{weights} cannot be read.* remove it and {MEASUREMENTS}, and"):
        pt.load_network(run)
    damage(tmp_path / SWEEP, how)
    with pytest.raises(
        ValueError, match=rf"{tmp_path / SWEEP} cannot be read.* remove it, and the sweep's call"
    ):
        pt.load_sweep(tmp_path / SWEEP)
    damage(run / MEASUREMENTS, how)
    for call in (lambda: pt.run(config, run), lambda: pt.load_sweep(tmp_path), lambda: sweep(tmp_path)):
        with pytest.raises(ValueError, match=rf"{run / MEASUREMENTS} cannot be read.* remove it, and the"):
            call()
    (run / MEASUREMENTS).unlink()
    weights.unlink()
    again = pt.run(config, run, report=quiet)
    assert again.identical(pt.run(config, report=quiet))


@pytest.mark.parametrize("how", [*GARBAGE, "another's"])
def test_a_damaged_checkpoint_is_named_and_the_remedy_helps(tmp_path, how):
    trainer = Trainer(TINY)
    files.claim_folder(tmp_path, TINY)
    path = tmp_path / CHECKPOINT
    files.write_state(path, trainer.state_dict() if how != "another's" else {"something": 1})
    if how != "another's":
        damage(path, how)
    with pytest.raises(ValueError, match=rf"{path} cannot be read.* remove it, and the run starts anew"):
        pt.run(TINY, tmp_path, report=quiet)
    path.unlink()
    assert pt.run(TINY, tmp_path, report=quiet).identical(pt.run(TINY, report=quiet))


@pytest.mark.parametrize("text", [b"", b"x = ", b"\xff\xfe", b"[model]"])
def test_a_damaged_configuration_is_named(tmp_path, text):
    (tmp_path / files.CONFIG).write_bytes(text)
    with pytest.raises(ValueError, match=rf"out: {tmp_path / files.CONFIG} is not the conf.*put it back"):
        pt.run(TINY, tmp_path)


@pytest.mark.parametrize("text", [b"", b"x = ", b"\xff\xfe", b"[model]"])
def test_a_damaged_preset_is_named(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"preset: {path} is not"):
        pt.Preset.load(path)


@pytest.mark.parametrize("text", [b"", b"x y", b"\xff\xfe", b"3 nan 4"])
def test_progress_that_cannot_be_read_ends_nothing(tmp_path, text):
    from pythermo.sweeps.group import read_progress

    (tmp_path / "progress.txt").write_bytes(text)
    assert read_progress(tmp_path) is None
    (tmp_path / "run" / "progress.txt").mkdir(parents=True)
    assert read_progress(tmp_path / "run") is None
    assert read_progress(tmp_path / "nowhere") is None


def test_a_preset_in_utf8_in_the_c_locale(tmp_path):
    text = (Path(pt.__file__).parent / "config/presets/digits-up.toml").read_text(encoding="utf-8")
    path = tmp_path / "größe.toml"
    path.write_text(text.replace('description = "', 'description = "Größe ÷ ', 1), encoding="utf-8")
    code = "import sys, pythermo as pt; print(ascii(pt.Preset.load(sys.argv[1]).description))"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=plain, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert r"Gr\xf6\xdfe \xf7" in done.stdout


def test_two_writers_of_a_file_do_not_share_a_temporary_one(tmp_path):
    path, names = tmp_path / "figure.png", []

    def write_within(part):
        names.append(part)
        part.write_text("first")
        files.write_text(path, "second")
        assert part.read_text() == "first"

    files.write_whole(path, write_within)
    assert path.read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert files.partial(path) != files.partial(path)


def test_what_killed_processes_left_is_removed(tmp_path):
    for _ in range(3):
        files.partial(tmp_path / CHECKPOINT).touch()
    pt.run(TINY, tmp_path, report=quiet)
    assert not list(tmp_path.glob(".*.part"))
