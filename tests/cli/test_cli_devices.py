"""A batch shared among devices: four of one process, and those of two processes; the same run to rounding."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from induction_dynamics.cli import main

WORDS = ("train", "--context-length", "3", "--query", "uniform", "--batch-size", "16", "--horizon", "6")
WORDS += ("--dtype", "float64", "--thresholds", "0.5", "--quiet")


def begin(folder, *words, devices=1):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "induction_dynamics", *WORDS, "--output", str(folder), *words]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def records(folder):
    with np.load(folder / "records.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("time", "coordinates", "loss", "off_subspace")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices") / "alone"
    assert main([*WORDS, "--output", str(folder)]) == 0
    return records(folder)


def same(folder, alone):
    for name, values in records(folder).items():
        assert values.shape == alone[name].shape
        np.testing.assert_allclose(values, alone[name], atol=1e-12, err_msg=name)


def test_four_devices(alone, tmp_path, capsys):
    with begin(tmp_path / "four", "--devices", "4", devices=4) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == "" and "alpha_3" in out
    same(tmp_path / "four", alone)


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def together(folder, *words, devices=1):
    """What two processes say, which are one computation."""
    address = f"localhost:{free_port()}"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                begin(
                    folder,
                    *("--coordinator", address, "--processes", "2", "--process", str(number)),
                    *words,
                    devices=devices,
                )
            )
            for number in range(2)
        ]
        try:
            said = [process.communicate(timeout=300) for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return said


@pytest.mark.slow
def test_two_processes_with_states_to_go_on_from(alone, tmp_path):
    """The first answers and writes; both go on from what it has saved."""
    folder = tmp_path / "two"
    saving = ("--checkpoint-every", "100", "--resume")
    (first, _), (second, _) = together(folder, *saving, devices=2)
    assert first.startswith("N  model") and second == ""
    same(folder, alone)
    (folder / "records.npz").unlink()
    for path in (folder / "checkpoints" / "about").iterdir():
        if path.stem != "200":
            path.unlink()
    together(folder, *saving, devices=2)
    same(folder, alone)


def test_a_batch_that_cannot_be_shared(tmp_path):
    with begin(tmp_path / "three", "--devices", "3", devices=4) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err == "--batch-size must be a multiple of the number of devices, which is 3; got '16'.\n"
    assert not (tmp_path / "three").exists()
