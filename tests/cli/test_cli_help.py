"""Help and imports: instant, complete, readable at 80 columns; and how a command ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from induction_dynamics import __version__
from induction_dynamics.cli import COMMANDS, main
from induction_dynamics.cli.parsing import flags
from induction_dynamics.transformer.disentangled import zero_weights
from induction_dynamics.weights_files import save_weights
from tests.cli.pretended_standard import pretend_standard_seeds

HEAVY = ("jax", "numpy", "scipy", "matplotlib", "jaxtyping")
SHARED = {
    "--model",
    "--inputs",
    "--query",
    "--rotation",
    "--copies",
    "--embedding-dim",
    "--measures",
    "--thresholds",
    "--loss-fractions",
    "--horizon",
    "--batch-size",
    "--step",
    "--samples",
    "--accuracy",
    "--seed",
    "--device",
    "--json",
    "--quiet",
}
INTERVENTION = {"--start", "--hold"}
TRAINING = {"--optimizer", "--learning-rate", "--momentum", "--b1", "--b2", "--eps", "--weight-decay", "--clip"}
TRAINING |= {"--schedule", "--warmup", "--steps", "--start-scale", "--sequences", "--shared-frames", "--dtype"}
OWN = {
    "simulate": {"--context-length"},
    "train": {"--context-length", "--save-weights"},
    "sweep": {"--context-lengths", "--from", "--to", "--per-decade", "--output", "--plan"},
}
OWN["simulate"] |= INTERVENTION
OWN["train"] |= INTERVENTION | TRAINING | {"--start-weights", "--record-every", "--output", "--checkpoint-every"}
OWN["train"] |= {"--nesterov", "--keep", "--resume", "--devices", "--coordinator", "--processes", "--process"}
OWN["sweep"] |= INTERVENTION | TRAINING
OWN["sweep"] |= {"--workers", "--threads", "--records", "--retry-failed", "--dry-run"}
COMPARE = {"--context-length", "--seeds", "--output"}
COMPARE |= INTERVENTION
COMPARE |= SHARED - {"--model", "--measures", "--thresholds", "--loss-fractions", "--seed"}
PROJECT = {"--rotation", "--times", "--thresholds", "--output", "--device", "--json", "--quiet"}
STANDARD = {
    "--task",
    "--context-length",
    "--vocabulary",
    "--query",
    "--period",
    "--embedding-dim",
    "--layers",
    "--heads",
}
STANDARD |= {"--head-dim", "--scaled", "--tokens", "--positions", "--tied", "--batch-size", "--start-scale", "--seeds"}
STANDARD |= {"--record-every", "--evaluation", "--deviations", "--dtype", "--save-weights", "--output", "--nesterov"}
STANDARD |= TRAINING - {"--sequences", "--shared-frames"}
STANDARD |= {"--checkpoint-every", "--keep", "--resume", "--device", "--json", "--quiet"}
OF_HEADS = {"--strict", "--top", "--json", "--quiet"}
OF_FOLDERS = {
    "status": {"--json"},
    "export": {"--to", "--trajectories", "--json", "--quiet"},
    "fit": {"--by", "--where", "--confidence", "--json", "--quiet"},
    "plot": {"--by", "--where", "--to", "--quiet"},
}
WORDS = {
    "sweep": ["--context-lengths", "4", "--output", "x"],
    "project": ["weights.npz"],
    "heads": ["attention.npz"],
    "status": ["out"],
    "export": ["out", "--to", "a.nc"],
    "fit": ["a", "b", "--by", "model", "--where", "model=full"],
    "plot": ["a", "b", "--to", "a.png"],
    "completion": ["bash"],
}
DEFAULTS = (
    "orthonormal",
    "last",
    "90",
    "0.5",
    "alpha_3 beta_2 gamma_3 loss",
    "256",
    "0.25",
    "2048",
    "1e-07",
    "12",
    "0",
    "cpu",
)


def run(*code):
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_that_computes():
    each = [["--help"], *([name, "-h"] for name in COMMANDS), ["fly"]]
    code = f"import sys; from induction_dynamics.cli import main; [main(words) for words in {each!r}]"
    loaded = run(code, f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded.endswith("LOADED []\n") and loaded.count("usage: ") == len(each) - 1


def test_parsing_imports_nothing_that_computes():
    each = {name: WORDS.get(name, ["--context-length", "4"]) for name in COMMANDS}
    code = f"[parse(COMMANDS[name], words) for name, words in {each!r}.items()]"
    loaded = run(
        "import sys; from induction_dynamics.cli import COMMANDS, parse",
        code,
        f"print([name for name in {HEAVY!r} if name in sys.modules])",
    )
    assert loaded == "[]\n"


def help_of(name, known, capsys, monkeypatch):
    """What a command's help prints at 80 columns, after checking that it tells of all options and no others."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert set(flags(COMMANDS[name].options)) == known
    assert all(f"  {flag} " in out or f"  {flag}\n" in out for flag in known)
    return out


@pytest.mark.parametrize("name", OWN)
def test_help_of_a_command_stands_alone(capsys, monkeypatch, name):
    words = " ".join(help_of(name, SHARED | OWN[name], capsys, monkeypatch).split())
    assert "2N + 1 tokens" in words and "flow time" in words and "learning rate x steps / D" in words
    assert "item-label pairs" in words and f"induction-dynamics {name} --" in words
    assert all(f"(default: {default})" in words for default in DEFAULTS)
    assert "2N + 2 orthonormal, 4N isotropic" in words and "count once" in words
    if name == "sweep":
        assert "ledger.sqlite" in words and "[[grid]]" in words and "(default: as many as pay)" in words
        assert all(
            f"[{word} ...]" in words for word in ("SEED", "QUERY", "COUNT", "DEGREES", "TIME", "D", "N", "X", "F")
        )


@pytest.mark.parametrize("name", OF_FOLDERS)
def test_help_of_what_looks_at_folders(capsys, monkeypatch, name):
    out = help_of(name, OF_FOLDERS[name], capsys, monkeypatch)
    several = " [DIR ...]" if name in ("fit", "plot") else ""
    assert re.match(rf"usage: induction-dynamics {name} \[-h\] (\[OPTIONS\] )?DIR{re.escape(several)}[ \n]", out)
    assert f"  DIR{several}  " in out
    words = " ".join(out.split())
    assert "'sweep'" in words or "the folder of a sweep" in words
    assert f"induction-dynamics {name} out/sweep" in words and "(required)" in words
    assert name == "status" or ("2N + 1 tokens" in words and "learning rate x steps / D" in words)


def test_help_of_completion(capsys, monkeypatch):
    assert "bash or zsh" in help_of("completion", set(), capsys, monkeypatch)


def test_the_plan_in_the_help_of_sweep_is_one(capsys, tmp_path):
    text = COMMANDS["sweep"].description
    (tmp_path / "plan.toml").write_text(text[text.index("  context_lengths = ") : text.index("Example:")])
    assert main(["sweep", "--plan", str(tmp_path / "plan.toml"), "--dry-run", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["model"] for point in points] == ["subspace"] * 3 * 2 + ["full"] * 3 * 2 * 2 * 3


def test_help_of_compare(capsys, monkeypatch):
    words = " ".join(help_of("compare", COMPARE, capsys, monkeypatch).split())
    assert "2N + 1 tokens" in words and "learning rate x steps / D" in words and "standard error" in words
    assert all(f"(default: {default})" in words for default in ("0 1 2", "5", "256", "0.25", "2048", "cpu"))


def test_help_of_standard(capsys, monkeypatch):
    words = " ".join(help_of("standard", STANDARD, capsys, monkeypatch).split())
    assert "There is no flow time: all is told in steps." in words and "counted from 0" in words
    defaults = ("pairs", "8", "32", "uniform", "128", "2", "1", "D/H", "0.5", "0", "adam", "0.001", "1000", "5", "cpu")
    assert all(f"(default: {default})" in words for default in defaults)


def test_help_of_project(capsys, monkeypatch):
    out = help_of("project", PROJECT, capsys, monkeypatch)
    assert "project [-h] [OPTIONS] FILE [FILE ...]\n" in out and "  FILE [FILE ...]  " in out
    words = " ".join(out.split())
    assert "W2 (4D x 4D)" in words and "J = [[0, -I], [I, 0]]" in words and "flow time" in words


def test_help_of_heads(capsys, monkeypatch):
    out = help_of("heads", OF_HEADS, capsys, monkeypatch)
    assert out.startswith("usage: induction-dynamics heads [-h] FILE [--strict] [--top K] [--json]\n")
    words = " ".join(out.split())
    assert "[layers, heads, length, length]" in words and "counted from 0" in words and "chance" in words
    assert "(default: all heads)" in words


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_lists_the_commands(capsys, word):
    assert main([word]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "2N + 1 tokens" in out and "flow time" in out and "exit status" in out
    for command in COMMANDS.values():
        assert f"  {command.name}" in out and command.summary in out


def examples(command):
    """The words of each example, without what the shell does."""
    text = command.description.partition("Example:")[2].replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    found = [re.findall(r"induction-dynamics ([^>)#]+)", line) for line in lines]
    assert lines and all(len(words) == 1 for words in found)
    return [words.split() for (words,) in found]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_are_valid(pretended, drawn, capsys, monkeypatch, tmp_path, name):
    """In a folder where all is that they need."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("induction_dynamics.training.standard.train_standard_seeds", pretend_standard_seeds)
    (tmp_path / "plan.toml").write_text("context_lengths = [4, 8]\n")
    if name == "project":
        (tmp_path / "checkpoints").mkdir()
        for file in ("weights", "checkpoints/0", "checkpoints/1", "checkpoints/2"):
            save_weights(zero_weights(2), tmp_path / f"{file}.npz")
    if name == "heads":
        np.savez(tmp_path / "attention.npz", attention=np.eye(3)[None, None], tokens=np.zeros(3, int))
    if name in OF_FOLDERS:
        words = ["--context-lengths", "4", "8", "16", "--model", "circuit", "full", "--output", "out/sweep", "--quiet"]
        assert main(["sweep", *words]) == 0
        for folder in ("runs/small", "runs/large"):
            shutil.copytree("out/sweep", folder)
    capsys.readouterr()
    for words in examples(COMMANDS[name]):
        assert words[0] == name
        assert main([*words, *(["--quiet"] if "--quiet" in flags(COMMANDS[name].options) else [])]) == 0
        assert capsys.readouterr().err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"induction-dynamics {__version__}\n"


def test_module_and_closed_pipe():
    command = [sys.executable, "-m", "induction_dynamics", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_interrupted(capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("induction_dynamics.cli.refuse_faulty_jax", interrupt)
    assert main(["simulate", "--context-length", "4"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Interrupted.\n")


def test_terminated(capsys, monkeypatch):
    """As by Ctrl-C; and the handler of before is there again, also after a command that ends well."""
    mine = []
    before = signal.signal(signal.SIGTERM, lambda *_: mine.append("mine"))
    try:
        monkeypatch.setattr("induction_dynamics.cli.refuse_faulty_jax", lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["simulate", "--context-length", "4"]) == 143
        assert capsys.readouterr() == ("", "Terminated.\n") and mine == []
        assert main(["--version"]) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert mine == ["mine"]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert main(["simulate"]) == 2  # nothing that is ignored is turned into an end
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_the_main_thread_handles_signals(capsys):
    found = []
    thread = threading.Thread(target=lambda: found.append(main(["--version"])))
    thread.start()
    thread.join()
    assert found == [0]


def test_progress_only_on_a_terminal(pretended, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    argv = ["simulate", "--context-length", "4", "--json"]
    assert main(argv) == 0
    assert "0/1" in capsys.readouterr().err
    assert main([*argv, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert [asked["on_progress"] is None for _, asked in pretended] == [False, True]
