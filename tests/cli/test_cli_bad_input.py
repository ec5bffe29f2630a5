"""Bad input: one sentence that names the option, the value as typed and what is allowed; status 2; nothing else."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

from induction_dynamics.cli import main
from induction_dynamics.errors import ArgumentError

PAIRS = "a whole number of item-label pairs, at least 1"


def refused(capsys, argv):
    """The sentence, after checking that there is nothing else."""
    status = main(argv)
    out, err = capsys.readouterr()
    assert status == 2, (status, out, err)
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    assert not err.isspace()
    return err.strip()


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "x", "nan", "1e400", "-inf", "1_000", " 4", "٤", "+4", "", "0x4"])
@pytest.mark.parametrize("command", ["simulate", "train"])
def test_context_length(capsys, command, value):
    sentence = refused(capsys, [command, "--context-length", value])
    assert sentence == f"--context-length must be {PAIRS}; got '{value}'."


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "x", "nan", "1e400"])
def test_context_lengths(capsys, tmp_path, value):
    folder = tmp_path / "out"
    argv = ["sweep", "--context-lengths", "4", value, "8", "--output", str(folder)]
    assert refused(capsys, argv) == f"--context-lengths must each be {PAIRS}; got '{value}'."
    assert not folder.exists()


@pytest.mark.parametrize("digits", ["1000000000001", "9" * 5000])
def test_context_length_has_an_upper_limit(capsys, digits):
    sentence = refused(capsys, ["simulate", "--context-length", digits])
    assert (
        sentence
        == f"--context-length must be a whole number of item-label pairs, at most 1000000000000; got '{digits}'."
    )


SIMULATE = ["simulate", "--context-length", "4"]

VALUES = [
    (["--thresholds", "0"], "--thresholds must each be a finite number above 0; got '0'."),
    (["--thresholds", "-1"], "--thresholds must each be a finite number above 0; got '-1'."),
    (["--thresholds", "nan"], "--thresholds must each be a finite number above 0; got 'nan'."),
    (["--thresholds", "inf"], "--thresholds must each be a finite number above 0; got 'inf'."),
    (["--thresholds", "-inf"], "--thresholds must each be a finite number above 0; got '-inf'."),
    (["--thresholds", "0.5", "1e400"], "--thresholds must each be a finite number above 0; got '1e400'."),
    (["--thresholds"], "--thresholds must each be a finite number above 0; got no value."),
    (["--loss-fractions", "1.5"], "--loss-fractions must each be a number strictly between 0 and 1; got '1.5'."),
    (["--loss-fractions", "1"], "--loss-fractions must each be a number strictly between 0 and 1; got '1'."),
    (["--loss-fractions", "0"], "--loss-fractions must each be a number strictly between 0 and 1; got '0'."),
    (["--model", "transformer"], "--model must be circuit or subspace"),
    (["--model", "full"], "'induction-dynamics train' runs the full model); got 'full'."),
    (["--query", "first"], "--query must be last or uniform; got 'first'."),
    (["--inputs", "gaussian"], "--inputs must be orthonormal or isotropic; got 'gaussian'."),
    (["--measures", "alpha_4"], "--measures must each be one of alpha_1 .. alpha_3, beta_1 .. beta_12"),
    (["--measures", "loss", "Loss"], "or loss; got 'Loss'."),
    (["--horizon", "0"], "--horizon must be a finite flow time in units of N^2, above 0 and at most 1e9; got '0'."),
    (["--horizon", "inf"], "above 0 and at most 1e9; got 'inf'."),
    (["--step", "0"], "--step must be a finite flow time above 0, at most 1e6; got '0'."),
    (["--batch-size", "0"], "--batch-size must be a whole number, at least 1; got '0'."),
    (["--samples", "1.0"], "--samples must be a whole number, at least 1; got '1.0'."),
    (["--seed", "-1"], "--seed must be a whole number, at least 0; got '-1'."),
    (["--seed", "4294967296"], "--seed must be a whole number, at most 4294967295; got '4294967296'."),
    (
        ["--rotation", "nan"],
        "--rotation must be a finite angle in degrees, at least 0.06 away from any multiple of 180; got 'nan'.",
    ),
    (["--rotation", "180"], "--rotation must be a finite angle in degrees"),
    (["--embedding-dim", "0"], "--embedding-dim must be an even whole number, at least 2; got '0'."),
    (["--embedding-dim", "11"], "--embedding-dim must be an even whole number, at least 10"),
    (["--embedding-dim", "8"], "(2N + 2, for N = 4 pairs of orthonormal inputs); got '8'."),
    (["--embedding-dim", "x"], "--embedding-dim must be an even whole number, at least 2; got 'x'."),
    (["--device", "abacus"], "--device must be cpu, gpu or tpu; got 'abacus'."),
    (["--horizn", "3"], "'--horizn' is no option of induction-dynamics simulate; did you mean --horizon?"),
    (["--thr", "3"], "'--thr' is no option of induction-dynamics simulate; did you mean --thresholds?"),
    (["--output", "x"], "'--output' is no option of induction-dynamics simulate"),
    (
        ["--frobnicate"],
        "'--frobnicate' is no option of induction-dynamics simulate; 'induction-dynamics simulate --help'",
    ),
    (["-x"], "'-x' is no option of induction-dynamics simulate"),
    (["5"], "--context-length takes one value; got '5' as well."),
    (["--json", "yes"], "--json takes no value; got 'yes' as well."),
    (["--json=yes"], "--json takes no value; got 'yes'."),
    (["--seed"], "--seed must be a whole number, at least 0; got no value."),
    (["--seed", "--json"], "--seed must be a whole number, at least 0; got no value."),
    (["--query", "a\nb"], "--query must be last or uniform; got 'a\\nb'."),
    (["--query", "\udcff"], "--query must be last or uniform; got '\\udcff'."),
]


@pytest.mark.parametrize(("words", "part"), VALUES, ids=[" ".join(words) for words, _ in VALUES])
def test_values_and_options(capsys, words, part):
    assert part in refused(capsys, SIMULATE + words)


COMMANDS = [
    ([], "A command is missing: simulate, sweep, train, compare or project"),
    (
        ["simulat"],
        "The command must be simulate, sweep, train, compare or project; got 'simulat'; did you mean simulate?",
    ),
    (["fly"], "The command must be simulate, sweep, train, compare or project; got 'fly'."),
    (["--context-length", "4"], "The option must be --help or --version; got '--context-length'."),
    ([""], "The command must be simulate, sweep, train, compare or project; got ''."),
    (["simulate"], f"--context-length is missing: it must be {PAIRS}."),
    (["train"], f"--context-length is missing: it must be {PAIRS}."),
    (["train", "--context-length", "4", "--model", "circuit"], "--model must be full"),
    (["sweep", "--context-lengths", "4"], "--output is missing: it must be the path of a folder."),
    (["sweep", "--output", ""], "--output must be the path of a folder; got ''."),
    (["project"], "FILE is missing: it must be the path of a file of weights, or of a folder of them."),
    (
        ["train", "--context-length", "4", "--save-weights", ""],
        "--save-weights must be the path of a new file; got ''.",
    ),
]


@pytest.mark.parametrize(("argv", "part"), COMMANDS, ids=[" ".join(argv) for argv, _ in COMMANDS])
def test_commands(capsys, argv, part):
    assert part in refused(capsys, argv)


RANGES = [
    ([], "--context-lengths is missing"),
    (["--context-lengths"], f"--context-lengths must each be {PAIRS}; got no value."),
    (["--context-lengths", "4", "--from", "4"], "--context-lengths and --from exclude each other"),
    (["--from", "4"], "--to is missing"),
    (["--from", "4", "--to", "64"], "--per-decade is missing"),
    (["--from", "64", "--to", "4", "--per-decade", "2"], "--to must be at least --from, which is 64; got '4'."),
    (["--from", "4", "--to", "64", "--per-decade", "0"], "--per-decade must be a whole number of points, at least 1"),
    (
        ["--context-lengths", "4", "--model", "circuit", "foo"],
        "--model must each be circuit, subspace or full; got 'foo'.",
    ),
]


@pytest.mark.parametrize(("words", "part"), RANGES, ids=[" ".join(words) for words, _ in RANGES])
def test_context_lengths_of_a_sweep(capsys, tmp_path, words, part):
    folder = tmp_path / "out"
    assert part in refused(capsys, ["sweep", "--output", str(folder), *words])
    assert not folder.exists()


def test_all_points_are_checked_before_any_is_computed(capsys, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("computed")

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.sweep"), "sweep", never)
    argv = ["sweep", "--context-lengths", "4", "8", "--embedding-dim", "12", "--output", str(tmp_path / "out")]
    assert "--embedding-dim must be an even whole number, at least 18" in refused(capsys, argv)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "argument", "option"),
    [
        ("simulate", "context_length", "--context-length"),
        ("sweep", "context_length", "--context-lengths"),
        ("sweep", "threshold", "--thresholds"),
        ("simulate", "something", "something"),
    ],
)
def test_what_the_library_refuses_names_the_option(capsys, tmp_path, monkeypatch, command, argument, option):
    def refuse(*args, **kwargs):
        raise ArgumentError(argument, 7, "such\nand such")

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.sweep"), "sweep", refuse)
    folder = tmp_path / "a" / "b"
    rest = ["--context-length", "4"] if command == "simulate" else ["--context-lengths", "4", "--output", str(folder)]
    assert refused(capsys, [command, *rest]) == f"{option} must be such and such; got 7."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_there(capsys, device, tmp_path):
    import jax

    try:
        jax.devices(device)
    except RuntimeError:
        pass
    else:
        pytest.skip("there is one")
    argv = ["sweep", "--context-lengths", "4", "--device", device, "--output", str(tmp_path / "out")]
    assert refused(capsys, argv) == f"--device must be one that jax finds on this machine; got '{device}'."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.10.1.dev3"])
def test_faulty_jax_is_refused(capsys, monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert f"jax {version} computes wrong numbers" in refused(capsys, SIMULATE)


def test_without_the_private_hook_of_tyro_its_own_message_comes(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro._errors", None)
    assert main([*SIMULATE, "--seed", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--seed" in err and "got 'x'" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["simulate", "--context-length", "2.5"], f"--context-length must be {PAIRS}; got '2.5'."),
        (["simulate", "--context-length", "4", "--device", "gpu"], "--device must be"),
        (["simulate", "--context-length", "4", "--embedding-dim", "7"], "--embedding-dim must be"),
        (["sweep", "--context-lengths", "4", "--output", "file"], "--output must be a folder; got 'file'"),
        (["frobnicate"], "The command must be"),
    ],
)
def test_in_a_process_of_its_own(tmp_path, words, part):
    (tmp_path / "file").write_text("mine")
    command = [sys.executable, "-m", "induction_dynamics", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "gpu" in words and done.returncode == 0:
        pytest.skip("there is a GPU")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(part) and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["simulate", "--context-length", "4", "--embedding-dim", "09"], "orthonormal inputs); got '09'."),
        (["simulate", "--context-length", "4", "--embedding-dim=09"], "orthonormal inputs); got '09'."),
        (
            ["simulate", "--context_length", "99999999", "--rotation", "60"],
            "--context-length must be at most 64 for subspace, query last",
        ),
        (
            ["sweep", "--from", "4", "--to", "65", "--per-decade", "1", "--rotation", "60", "--output", "x"],
            "--to must be at most 64 for subspace, query last, orthonormal inputs at 60 degrees; got '65'.",
        ),
        (["train", "--context-length", "1000000000000"], "is at most 4096; got '1000000000000'."),
        (["train", "--context-length", "4", "--embedding-dim", "5000"], "at most 4096 for the full model; got '5000'."),
    ],
)
def test_values_refused_later_are_quoted_as_typed(capsys, argv, sentence):
    assert sentence in refused(capsys, argv)
