"""The folder of a command: whose it is, and that its files are there whole or not at all."""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from induction_dynamics.cli import folder as folders
from induction_dynamics.cli import main

FILES = {"config.json", "compare.json", "deviations.csv", "curves.csv", "comparison.png", "comparison.svg"}


@pytest.fixture
def compared(drawn, pretended, monkeypatch):
    """The calls of the comparison; its pictures cost nothing."""
    calls = []
    comparison = importlib.import_module("induction_dynamics.training.comparison")
    picture = importlib.import_module("induction_dynamics.plotting.comparison")
    real = comparison.compare

    def compare(task, **asked):
        calls.append((task, asked))
        return real(task, **asked)

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(picture, "plot_comparison", lambda comparison: "figure")
    return calls


def compare(output, *words):
    return main(["compare", "--context-length", "4", "--seeds", "0", "--output", str(output), *words])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_configuration_may_be_written_again(capsys, compared, tmp_path):
    assert compare(tmp_path / "out", "--quiet") == 0
    before = contents(tmp_path / "out")
    config = json.loads(before["config.json"])
    config["versions"]["jax"] = "0.0.1"
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert compare(tmp_path / "out", "--json") == 0
    assert contents(tmp_path / "out") == before
    assert before.keys() == FILES


@pytest.mark.parametrize(
    "config", ['{"seeds": [0]}', "[]", "not JSON", '{"seed": 0, "model": ["circuit"]}', b"\xff\xfe".decode("latin-1")]
)
def test_another_configuration_is_refused(capsys, compared, tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    before = contents(tmp_path)
    assert compare(tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"--output must be a new folder or one of the same configuration; got '{tmp_path}'")
    assert contents(tmp_path) == before
    assert compared == []


def test_the_difference_is_named(capsys, compared, tmp_path):
    assert compare(tmp_path / "out", "--quiet") == 0
    capsys.readouterr()
    assert compare(tmp_path / "out", "--seeds", "1", "--horizon", "3") == 2
    assert "whose config.json is another (other seeds, horizon)." in capsys.readouterr().err


def test_files_of_somebody_else_are_kept(capsys, compared, tmp_path):
    (tmp_path / "curves.csv").write_text("mine")
    assert compare(tmp_path) == 2
    assert "which holds curves.csv without config.json." in capsys.readouterr().err
    assert contents(tmp_path) == {"curves.csv": b"mine"}
    assert compared == []


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_file_is_no_folder(capsys, compared, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert compare(tmp_path / "file" / below) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("--output must be a folder") and err.count("\n") == 1
    assert contents(tmp_path) == {"file": b"mine"}
    assert compared == []


def test_a_folder_that_cannot_be_written(capsys, compared, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folders, "open", refuse, raising=False)
    assert compare(tmp_path / "a" / "b") == 2
    assert "that can be written; got" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long(capsys, compared, tmp_path):
    assert compare(tmp_path / ("a" * 5000)) == 2
    assert "(File name too long)." in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (MemoryError, 1)])
def test_a_failure_leaves_nothing(capsys, tmp_path, monkeypatch, error, status):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(importlib.import_module("induction_dynamics.training.comparison"), "compare", fail)
    assert compare(tmp_path / "a" / "b") == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_exhausted_memory_of_jax_is_a_sentence_and_other_failures_are_not_hidden(capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError(message)

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.sweep"), "sweep", fail)
    message = "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."
    assert main(["simulate", "--context-length", "4"]) == 1
    assert "not enough memory" in capsys.readouterr().err
    message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        main(["simulate", "--context-length", "4"])


@pytest.mark.parametrize("moment", ["while writing", "while drawing"])
def test_a_failure_while_writing_keeps_what_was_there(capsys, compared, tmp_path, monkeypatch, moment):
    folder = tmp_path / "out"
    assert compare(folder, "--quiet") == 0
    before = contents(folder)
    capsys.readouterr()

    def fail(*arguments):
        arguments[-1].write_bytes(b"half")
        raise OSError(28, "No space left on device")

    if moment == "while drawing":
        monkeypatch.setattr(importlib.import_module("induction_dynamics.plotting.style"), "save_figure", fail)
    else:
        monkeypatch.setattr(folders.Path, "write_text", lambda path, *args, **kwargs: fail(path))
    assert compare(folder, "--json") == 1
    out, err = capsys.readouterr()
    assert out == "" and err == "Reading or writing failed: No space left on device.\n"
    assert contents(folder) == before


def test_files_are_renamed_only_when_all_are_written(tmp_path):
    seen = []

    def write(path):
        seen.append((path.name, sorted(os.listdir(tmp_path))))
        path.write_text("x")

    folders.write_all(tmp_path, {"a": write, "b": write})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert all(not {"a", "b"} & {name, *present} for name, present in seen)


def test_the_second_of_two_at_once_is_refused(tmp_path):
    path = str(tmp_path / "out")
    with folders.claimed(path, {"seed": 0}, ()):
        with pytest.raises(folders.Refusal, match="is another .other seed."):
            with folders.claimed(path, {"seed": 1}, ()):
                pass
        with folders.claimed(path, {"seed": 0}, ()):
            pass
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["config.json"]


def test_what_a_killed_command_leaves_does_not_block_the_next(capsys, compared, tmp_path):
    assert compare(tmp_path / "out") == 0
    for name in FILES - {"config.json"}:
        (tmp_path / "out" / name).unlink()
    assert compare(tmp_path / "out") == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES


def test_a_lone_configuration_of_another_may_be_removed(capsys, compared, tmp_path):
    """It was left by a command that was killed, or is of one that is still at work: the sentence says what to do."""
    assert compare(tmp_path / "out", "--quiet") == 0
    other = [tmp_path / "out", "--seeds", "1"]
    assert compare(*other) == 2
    assert "no result" not in capsys.readouterr().err
    for name in FILES - {"config.json"}:
        (tmp_path / "out" / name).unlink()
    assert compare(*other) == 2
    assert capsys.readouterr().err.endswith(
        "whose config.json is another (other seeds) and which holds no result yet: "
        "unless a command is at work there, remove it, or choose another.\n"
    )
    assert contents(tmp_path / "out").keys() == {"config.json"}


def test_the_configuration_may_be_read_by_whom_the_other_files_may(tmp_path):
    """Already while the command is at work."""
    (tmp_path / "mine").write_text("x")
    with folders.claimed(str(tmp_path / "out"), {"seed": 0}, ()) as folder:
        assert (folder / "config.json").stat().st_mode == (tmp_path / "mine").stat().st_mode
        assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_a_terminated_command_leaves_nothing(tmp_path):
    words = ["compare", "--context-length", "8", "--horizon", "1e4", "--output", str(tmp_path / "a" / "out")]
    command = [sys.executable, "-m", "induction_dynamics", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "a" / "out" / "config.json").exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (143, "", "Terminated.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "number, status, sentence", [(signal.SIGTERM, 143, "Terminated.\n"), (signal.SIGINT, 130, "Interrupted.\n")]
)
def test_a_signal_dropped_by_the_garbage_collector_comes_again(capsys, monkeypatch, number, status, sentence):
    def drop(*phase_and_info):
        gc.callbacks.remove(drop)
        signal.raise_signal(number)

    def run(words):
        gc.callbacks.append(drop)
        gc.collect()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.01)

    monkeypatch.setattr("induction_dynamics.cli._run", run)
    hook = sys.unraisablehook
    # A shell starts what runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([]) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("", sentence)
    assert sys.unraisablehook is hook


# between a file's opening and the block that closes it, the garbage collector does
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("there_before", [False, True])
def test_a_claim_interrupted_at_any_line_leaves_nothing(tmp_path, there_before):
    """As a signal would: the n-th line that runs in the module raises, for every n until the claim is whole."""
    path = tmp_path / "a" / "out"
    if there_before:
        path.mkdir(parents=True)
        (path / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    def interrupted(at):
        lines = iter(range(10**6))

        def trace(frame, event, arg):
            # cleaning up is not interrupted a second time
            if frame.f_code.co_filename != folders.__file__:
                return None
            if event == "line" and next(lines) == at:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            with folders.claimed(str(path), {"seed": 0}, ("rows.csv",)):
                sys.settrace(None)
                return False
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)

    moments = 0
    while interrupted(moments):
        assert sorted(tmp_path.rglob("*")) == before, moments
        moments += 1
    assert moments > 20
    assert (path / "config.json").exists()


def test_a_configuration_nested_without_end_is_another(capsys, compared, tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    assert compare(tmp_path) == 2
    assert "whose config.json is another" in capsys.readouterr().err
