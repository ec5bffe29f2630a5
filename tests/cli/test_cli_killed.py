"""A sweep that is killed, again and again, at random moments: nothing finished is lost, and the end is the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from induction_dynamics.cli import main
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.ledger import FILE, read_ledger, read_state

# Batches of one point and of several: some seconds, of which most are spent on the trainings.
PLAN = """
context_lengths = [3, 4]

[[grid]]
model = "circuit"
context_lengths = [2, 3, 4, 5, 6, 9, 12, 16, 1000]

[[grid]]
model = "full"
query = "uniform"
seed = [0, 1, 2, 3, 4, 5, 6, 7]
"""
POINTS = 9 + 2 * 8
KILLS = int(os.environ.get("KILLS", "3"))


def begin(plan, folder, *words):
    command = [
        sys.executable,
        "-m",
        "induction_dynamics",
        "sweep",
        "--plan",
        str(plan),
        "--output",
        str(folder),
        *words,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(folder):
    try:
        return {entry.point: entry for entry in read_ledger(folder)}
    except ArgumentError as error:
        assert "has written" in error.allowed  # there is none yet
        return {}


def exported(folder, capsys):
    assert main(["export", str(folder), "--to", str(folder / "table.csv"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    return (folder / "table.csv").read_bytes()


@pytest.mark.parametrize("words", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, capsys, words, kills=KILLS):
    plan, whole, folder = tmp_path / "plän.toml", tmp_path / "whole", tmp_path / "killed again and ägain"
    plan.write_text(PLAN, encoding="utf-8")
    with begin(plan, whole) as process:
        assert process.wait(300) == 0, process.communicate()
    moments, there, in_mid_run = random.Random(0), {}, 0
    for number in range(kills):
        # after some more points are there, and then a while; some only after a while, which may be at the start
        awaited = len(there) + moments.randint(1, max((POINTS - len(there)) // (kills - number + 1), 1))
        with begin(plan, folder, *words) as process:
            while process.poll() is None and number % 4 and len(finished(folder)) < awaited:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.3 if number % 4 else 4))
            process.send_signal(signal.SIGKILL)
            in_mid_run += process.wait() == -signal.SIGKILL
        now = finished(folder)
        assert {point: now[point] for point in there} == there  # to the last bit, with the time of its making
        there = now
    assert in_mid_run >= kills // 2
    with begin(plan, folder, "--json", *words) as process:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert f'"computed": {POINTS - len(there)},\n  "reused": {len(there)},' in out
    assert exported(folder, capsys) == exported(whole, capsys)
    print(f"{in_mid_run} kills of {kills} in mid-run; {len(there)} of {POINTS} points were there before the last")


def begun_on(folder, workers):
    """Whether a process has done the short points, or several have begun with the longest."""
    if not (folder / FILE).exists():
        return False
    words = read_state(folder).get("progress", {}).get("words", "")
    return words.startswith("full") and (workers > 1 or len(finished(folder)) >= 2)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_watched_and_interrupted(tmp_path, capfd, workers):
    """While one sweep is at work another leaves and `status` tells; Ctrl-C ends it at once, in the midst of a run."""
    folder = tmp_path / "sweep"
    words = ["sweep", "--context-lengths", "4", "16", "--model", "circuit", "full", "--seed", "0", "1"]
    words += ["--batch-size", "2", "512", "--workers", workers, "--output", str(folder)]
    with subprocess.Popen([sys.executable, "-m", "induction_dynamics", *words], stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 120
            while not begun_on(folder, int(workers)):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            assert main(["status", str(folder), "--json"]) == 0
            told = json.loads(capfd.readouterr().out)
            assert told["running"] and told["asked"] == 10 and told["points"] < 10
            assert told["at_work_on"].startswith("full, query last, N = ")
            assert told["driver"]["process"] == process.pid and told["ended"] is None
            assert main(words) == 2
            assert f"no other sweep is at work (process {process.pid} on" in capfd.readouterr().err
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - begun < 20
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.decode() == "All that was finished is kept: the same command goes on from there.\nInterrupted.\n"
    assert len(finished(folder)) < 10
    assert main(["status", str(folder)]) == 0
    assert "nobody is at work: the last sweep was stopped at" in capfd.readouterr().out
