"""A sweep that is killed, again and again, at random moments: nothing finished is lost, and the end is the same."""

import random
import signal
import subprocess
import sys
import time

import pytest

from induction_dynamics.cli import main
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.ledger import read_ledger

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


@pytest.mark.parametrize("kills, words", [(3, ()), pytest.param(20, ("--workers", "2"), marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, capsys, kills, words):
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
