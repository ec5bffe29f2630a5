"""Bad input: one sentence that names the option, the value as typed and what is allowed; status 2; nothing else."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

from induction_dynamics.cli import main
from induction_dynamics.cli.parsing import flags
from induction_dynamics.cli.sweep_options import PlanOptions
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


NAMES = "simulate, sweep, train, compare, standard, project, heads, status, export, fit, plot or completion"
COMMANDS = [
    ([], f"A command is missing: {NAMES}; 'induction-dynamics --help' tells more."),
    (["simulat"], f"The command must be {NAMES}; got 'simulat'; did you mean simulate?"),
    (["fly"], f"The command must be {NAMES}; got 'fly'."),
    (["--context-length", "4"], "The option must be --help or --version; got '--context-length'."),
    ([""], f"The command must be {NAMES}; got ''."),
    (["simulate"], f"--context-length is missing: it must be {PAIRS}."),
    (["train"], f"--context-length is missing: it must be {PAIRS}."),
    (["train", "--context-length", "4", "--model", "circuit"], "--model must be full"),
    (["sweep", "--context-lengths", "4"], "--output is missing: it must be the path of a folder."),
    (["sweep", "--output", ""], "--output must be the path of a folder; got ''."),
    (["sweep", "--context-lengths", "4", "--dry-run", "no"], "--dry-run takes no value; got 'no' as well."),
    (["sweep", "--retry_failed", "no"], "--retry_failed takes no value; got 'no' as well."),
    (["sweep", "--retry-failed=no"], "--retry-failed takes no value; got 'no'."),
    (["sweep", "--workers", "0"], "--workers must be a whole number of processes, at least 1; got '0'."),
    (["sweep", "--workers", "1025"], "--workers must be a whole number of processes, at most 1024; got '1025'."),
    (["sweep", "--threads", "x"], "--threads must be a whole number of threads, at least 1; got 'x'."),
    (["sweep", "--threads", "2", "3"], "--threads takes one value; got '3' as well."),
    (["sweep", "--records", "-1"], "--records must be a whole number of records, at least 2; got '-1'."),
    (["sweep", "--plan", ""], "--plan must be the path of a TOML file; got ''."),
    (["sweep", "--plan"], "--plan must be the path of a TOML file; got no value."),
    (["status"], "DIR is missing: it must be the path of a folder that 'sweep' has written."),
    (["status", "none"], "DIR must be a folder that 'sweep' has written, with its ledger.sqlite; got 'none'."),
    (["export", "none"], "--to is missing: it must be the path of a file that ends in .nc or .csv."),
    (["fit"], "DIR is missing: it must be the path of a folder that 'sweep' has written."),
    (["fit", "none"], "DIR must be a folder that 'sweep' has written, with its ledger.sqlite; got 'none'."),
    (["plot", "none", "other"], "--to is missing: it names the file to write where there is more than one DIR."),
    (["completion"], "SHELL is missing: it must be bash or zsh."),
    (["completion", "fish"], "SHELL must be bash or zsh; got 'fish'."),
    (["project"], "FILE is missing: it must be the path of a file of weights, or of a folder of them."),
    (["standard", "--context-length", "x"], "--context-length must be a whole number, at least 1; got 'x'."),
    (["standard", "--task"], "--task must be pairs or repeated; got no value."),
    (["standard", "--seeds", "0", "-1"], "--seeds must each be a whole number, at least 0; got '-1'."),
    (["heads"], "FILE is missing: it must be the path of an .npz file with the arrays attention and tokens."),
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


N4 = "context_lengths = 4\n"
LENGTHS = "context_lengths must each be a whole number of item-label pairs, at least 1; got"
PLANS = [
    ("", ": context_lengths is missing: give one or more of them, or from, to and per_decade."),
    ("context_lengths = [4, 0]", f": {LENGTHS} '0'."),
    ("context_lengths = []", f": {LENGTHS} no value."),
    ("context_lengths = 4.0", f": {LENGTHS} '4.0'."),
    ("context_lengths = -4", f": {LENGTHS} '-4'."),
    ("context_lengths = nan", f": {LENGTHS} 'nan'."),
    ("context_lengths = '4 8'", f": {LENGTHS} '4 8'."),
    ("context_lengths = true", ": context_lengths must be a number or a word; got 'True'."),
    ("context_lengths = [[4]]", ": context_lengths must be a number or a word; got '[4]'."),
    ("context_lengths = {n = 4}", ": context_lengths must be a number or a word; got '{'n': 4}'."),
    ("context_lengths = 2025-11-22", ": context_lengths must be a number or a word; got '2025-11-22'."),
    (f"context_lengths = {'9' * 4000}", "item-label pairs, at most 1000000000000; got '999"),
    (f"context_lengths = {'9' * 5000}", " must be a TOML file: Exceeds the limit"),
    (f"context_lengths = 0x{'f' * 5000}", f": {LENGTHS} '...'."),
    (f"context_lengths = [[0x{'f' * 5000}]]", ": context_lengths must be a number or a word; got '...'."),
    ("from = 4", ": to is missing: a range takes all of from, to and per_decade."),
    ("from = 4\nto = [8, 16]\nper_decade = 1", ": to takes one value; got '16' as well."),
    ("from = 4\nto = 2\nper_decade = 1", ": to must be at least from, which is 4; got '2'."),
    (N4 + "to = 8", ": context_lengths and to exclude each other: give a list, or a range, not both."),
    (N4 + "thresholds = inf", ": thresholds must each be a finite number above 0; got 'inf'."),
    (N4 + "thresholds = 1e400", ": thresholds must each be a finite number above 0; got 'inf'."),
    (N4 + "model = 'transformer'", ": model must each be circuit, subspace or full; got 'transformer'."),
    (N4 + "model = '--json'", ": model must be no word that begins with '-'; got '--json'."),
    (N4 + "query = 'a\\u202e'", "; got 'a\\u202e'."),
    (N4 + "embedding_dim = 8", ": embedding_dim must be an even whole number, at least 10 (2N + 2, for N = 4 pairs "),
    ("context_lengths = 400\nrotation = 60", ": context_lengths must be at most 64 for subspace, query last, "),
    (N4 + "mode = 'full'", " has 'mode', which is no option of a sweep; did you mean model?"),
    (N4 + "loss-fractions = 0.5", " has 'loss-fractions', which is no option of a sweep; did you mean loss_fractions?"),
    (N4 + "output = 'x'", " has 'output', which is no option of a sweep; it may have context_lengths, from, to, "),
    (N4 + "'--help' = 1", " has '--help', which is no option of a sweep; "),
    (N4 + "[[grid]]\n[grid.seed]\nx = 1", ": seed must be a number or a word; got '{'x': 1}'."),
    (N4 + "[[grid]]\nbatchsize = 1", " has 'batchsize', which is no option of a sweep; did you mean batch_size?"),
    (N4 + "[[grid]]\nseed = 'x'", ": seed must each be a whole number, at least 0; got 'x'."),
    (N4 + "[[grid]]\nmeasures = 'loss'", " says measures in a [[grid]]; it holds for all points, and stands before "),
    ("[[grid]]\nseed = 1", ": context_lengths is missing: give one or more of them, or from, to and per_decade."),
    (N4 + "[grid]\nseed = 1", " must have tables [[grid]], or none; got grid = '{'seed': 1}'."),
    (N4 + "grid = 3", " must have tables [[grid]], or none; got grid = '3'."),
    (N4 + "grid = []", " must have tables [[grid]], or none; got grid = '[]'."),
    (N4 + "grid = [{}, 1]", " must have tables [[grid]], or none; got grid = '[{}, 1]'."),
    ("model: full", " must be a TOML file: Expected '=' after a key in a key/value pair (at line 1, column 6)."),
    (N4 + N4, " must be a TOML file: Cannot overwrite a value"),
    (b"\xff\xfe", " must be a TOML file: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte."),
    (b"a = 1\0", " must be a TOML file: "),
    ("a = " + "[" * 10**5, " must be a TOML file: "),
    (b" " * (16 * 1024**2 + 1), " must be a TOML file of at most 16 MB."),
]


@pytest.mark.parametrize(("text", "part"), PLANS, ids=[repr(text[:40]) for text, _ in PLANS])
def test_plans(capsys, tmp_path, text, part):
    path = tmp_path / "my plan.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = refused(capsys, ["sweep", "--plan", str(path), "--output", str(tmp_path / "out")])
    assert sentence.startswith(f"The plan '{path}'") and part in sentence, sentence
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.toml", "No such file or directory"), (".", "Is a directory"), ("a" * 5000, "File name too long")],
    ids=["none", "folder", "long"],
)
def test_a_plan_that_cannot_be_read(capsys, tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    sentence = refused(capsys, ["sweep", "--plan", name, "--output", "out"])
    assert sentence == f"--plan must be a TOML file; got '{name}' ({reason})."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 5000 + ".png", "a" * 5000 + "/b.png"], ids=["file", "folder"])
def test_a_picture_whose_name_is_too_long(capsys, pretended, drawn, tmp_path, name):
    words = ["--context-lengths", "4", "--model", "circuit", "--output", str(tmp_path / "out"), "--quiet"]
    assert main(["sweep", *words]) == 0
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    sentence = refused(capsys, ["plot", str(tmp_path / "out"), "--to", str(tmp_path / name)])
    assert sentence.startswith("--to must be a file ") and name in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_stands_alone(capsys, tmp_path):
    """Beside any option that says which points, whatever its value; the others go with it."""
    (tmp_path / "plan.toml").write_text(N4)
    plan = ["sweep", "--plan", str(tmp_path / "plan.toml"), "--dry-run"]
    words = dict.fromkeys(flags(PlanOptions), "4") | {"--model": "full", "--inputs": "isotropic", "--query": "last"}
    words |= {"--measures": "loss", "--loss-fractions": "0.5", "--accuracy": "1e-5", "--optimizer": "gd"}
    words |= dict.fromkeys(("--momentum", "--b1", "--b2"), "0.5")
    words |= {"--schedule": "cosine", "--dtype": "float64", "--start": "gamma_3=1", "--hold": "none"}
    for option, value in words.items():
        sentence = f"--plan and {option} exclude each other: the plan '{plan[2]}' says which points."
        assert refused(capsys, [*plan, option, value]) == sentence
    assert main([*plan, "--workers", "2", "--threads", "2", "--records", "3", "--retry-failed", "--quiet"]) == 0


def test_all_points_are_checked_before_any_is_computed(capsys, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("computed")

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.study"), "compute", never)
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
    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.study"), "run_sweep", refuse)
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
