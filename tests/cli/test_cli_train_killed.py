"""A training that is killed, again and again, at random moments, goes on to the same numbers bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time

# Thousands of steps of a millisecond, and a state every 40 of them: some seconds, a third of them spent on saving.
KILLS = int(os.environ.get("KILLS", "3"))
HORIZON = 80 + 20 * max(KILLS - 3, 0)
WORDS = ("--context-length", "3", "--query", "uniform", "--batch-size", "64", "--horizon", str(HORIZON))
WORDS += ("--measures", "alpha_3", "--thresholds", "1000", "--seed", "7", "--checkpoint-every", "40", "--resume")
STEPS = HORIZON * 9 * 4 + 1
CONTENTS = ("rows.csv", "records.npz", "weights.npz")


def begin(folder):
    command = [sys.executable, "-m", "induction_dynamics", "train", *WORDS, "--output", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def latest(folder):
    """Step of the latest state that is whole."""
    try:
        names = os.listdir(folder / "checkpoints" / "about")
    except FileNotFoundError:
        return 0
    return max((int(name.removesuffix(".json")) for name in names if name[0] != "."), default=0)


def test_killed_at_random_moments(tmp_path, kills=KILLS):
    whole, folder = tmp_path / "whole", tmp_path / "killed again and ägain"
    with begin(whole) as process:
        assert process.wait(300) == 0, process.communicate()
    moments, there, in_mid_run, went_on = random.Random(0), 0, 0, 0
    for number in range(kills):
        # after some more steps, and then a moment, which may fall into a saving; some only after a while
        awaited = there + moments.randint(1, max((STEPS - there) // (kills - number + 1), 1))
        with begin(folder) as process:
            while process.poll() is None and number % 4 and latest(folder) < awaited:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.1 if number % 4 else 5))
            process.send_signal(signal.SIGKILL)
            in_mid_run += process.wait() == -signal.SIGKILL
            assert process.stderr is not None
            went_on += f"The training goes on from step {there}." in process.stderr.read()
        assert latest(folder) >= there
        there = latest(folder)
    assert in_mid_run >= kills // 2
    assert went_on >= 1
    with begin(folder) as process:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert f"The training goes on from step {there}." in err
    for name in CONTENTS:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert latest(folder) == STEPS
    print(f"{in_mid_run} kills of {kills} in mid-run; {there} of {STEPS} steps were there before the last")
