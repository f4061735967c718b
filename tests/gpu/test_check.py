"""The checks for a machine with a GPU, as far as one without can tell."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load():
    spec = importlib.util.spec_from_file_location("gpu_check", HERE / "check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


check = load()


def stage(code, seconds=30.0, **rest):
    return check.Stage("this", seconds, [sys.executable, "-c", code], **rest)


def test_each_stage_has_its_limit_or_the_one_asked_for(tmp_path):
    known = check.stages(tmp_path)
    names = [one.name for one in known]
    assert [*(one.name for one in check.chosen_stages([], known)), "sweep"] == names
    assert [one.name for one in check.chosen_stages(["sweep"], known)] == ["sweep"]
    chosen = check.chosen_stages(["tests:12", "sanitizer:7.5", "smoke"], known)
    assert [(one.name, one.seconds) for one in chosen[:2]] == [("tests", 12.0), ("memcheck", 7.5)]
    assert {one.name for one in chosen[1:5]} == {"memcheck", "racecheck", "synccheck", "initcheck"}
    assert chosen[5] == known[names.index("smoke")]
    with pytest.raises(ValueError, match="no such stage: smok; there are machine"):
        check.chosen_stages(["smok"], known)


def test_the_files_of_all_stages_are_there(tmp_path):
    for one in check.stages(tmp_path):
        for word in one.command:
            assert not word.endswith(".py") or (check.ROOT / word).is_file(), word


def test_what_a_stage_prints_is_logged_and_its_fault_is_named(tmp_path):
    log = tmp_path / "log.txt"
    assert check.carry_out(stage("print(3)"), log, 60).fault == ""
    assert check.carry_out(stage("print(4); exit(2)"), log, 60).fault == "exit code 2"
    bad = stage("print('FAIL knn: 3 eps (0.1 s)')", fault=check.failed_checks)
    assert check.carry_out(bad, log, 60).fault == "FAIL knn: 3 eps (0.1 s)"
    assert [line for line in log.read_text().splitlines() if len(line) == 1] == ["3", "4"]


def test_a_stage_ends_at_its_limit_with_all_that_it_started(tmp_path):
    log, mark = tmp_path / "log.txt", tmp_path / "mark"
    child = f"import time; from pathlib import Path; time.sleep(3); Path({str(mark)!r}).touch()"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    outcome = check.carry_out(stage(code, seconds=1.5), log, 60)
    assert outcome.fault == "did not end in 2 s"
    assert "begun" in log.read_text()
    time.sleep(2.5)
    assert not mark.exists()


def test_what_cannot_run_says_so(tmp_path):
    log = tmp_path / "log.txt"
    absent = check.Stage("this", 30.0, ["no-such-program"])
    assert check.carry_out(absent, log, 60).fault == "did not run: there is no no-such-program on the path"
    assert check.carry_out(stage("print(3)"), log, 2.0).fault == "did not run: no time is left"


def test_only_our_kernels_reads_of_unwritten_memory_count():
    """In the words of compute-sanitizer: host and torch's kernels read what is not traced, or is padding."""
    ours, torchs, host = (
        "========= Uninitialized __global__ memory read of size 4 bytes\n"
        "=========     at void pythermo::(anonymous namespace)::step_kernel<float>(float*)+0x70\n",
        "========= Uninitialized __global__ memory read of size 4 bytes\n"
        "=========     at void at::native::vectorized_elementwise_kernel<4>(int)+0x70\n"
        "=========         Host Frame: pythermo\n",
        "========= Host API memory access error at host access to 0x7f9f4c814400 of size 1 bytes\n"
        "=========     Uninitialized access to 0x7f9f4c814400 on access by cudaMemcpy source\n",
    )
    assert check.uninitialized_reads(torchs + host + "0 failed\n") == ""
    assert check.uninitialized_reads(ours + torchs + host + ours).startswith("2 reads")
    assert check.uninitialized_reads(host + "FAIL knn: 3 eps\n") == "FAIL knn: 3 eps"


def test_the_smoke_test_passes_on_the_emulation():
    command = [sys.executable, str(HERE / "smoke.py"), "--fake", "--least"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for family in ("step", "gradient_sums", "knn", "sphere"):
        assert f"ok   {family}" in done.stdout
