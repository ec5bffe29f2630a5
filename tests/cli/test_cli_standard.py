"""`standard`: tables and documents, the folder, states to go on from, and what is refused."""

import json
import os
import re
import stat
from typing import Any

import numpy as np
import pytest

from induction_dynamics.cli import main
from induction_dynamics.cli.standard_folder import FILES
from induction_dynamics.heads import KINDS
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.token_task import TokenTask
from induction_dynamics.training import engine
from induction_dynamics.training import standard as module
from induction_dynamics.training.standard_emergence import emergence_steps
from induction_dynamics.transformer.standard import Architecture
from tests.cli.pretended_standard import ENDS, SPREAD, pretend_standard_seeds

BASE = ("standard", "--context-length", "2", "--vocabulary", "4", "--embedding-dim", "8", "--steps", "20")
BASE += ("--batch-size", "8", "--evaluation", "16", "--record-every", "5", "--seeds", "0", "1", "--deviations", "0.5")
"""Two seeds whatever else is asked: all trainings of this module share one compiled program."""

MEASURES = [*CIRCUIT, "loss", "accuracy"]
FIGURES = ["seed_0.png", "seed_0.svg", "seed_1.png", "seed_1.svg"]


def run(*words):
    return main([*BASE, *map(str, words)])


def answer(capsys, *words):
    """The document that a command prints and nothing else, checked against its schema."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return validate(out)


def validate(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    assert list(document) == ["schema_version", "command", "config", "rows", "fits", "notes", "runs"]
    assert (document["schema_version"], document["command"], document["fits"]) == (1, "standard", [])
    seeds = document["config"]["seeds"]
    measures = MEASURES if document["config"]["layers"] > 1 else [name for name in MEASURES if name != "beta_2"]
    assert [(row["seed"], row["measure"]) for row in document["rows"]] == [
        (s, name) for s in seeds for name in measures
    ]
    for row in document["rows"]:
        assert list(row) == ["seed", "measure", "step", "outcome", "start", "end", "deviations"]
        assert (row["step"] is not None) == (row["outcome"] == "emerged")
        assert row["deviations"] is None or row["measure"] in CIRCUIT
    assert [told["seed"] for told in document["runs"]] == seeds
    for told in document["runs"]:
        keys = ["seed", "outcome", "last_step", "loss", "accuracy", "previous_token", "induction", "order"]
        assert list(told) == keys
        own = {row["measure"]: row["step"] for row in document["rows"] if row["seed"] == told["seed"]}
        timed = told["order"].partition("never ")[0].removesuffix("; ")
        names = timed.replace(" = ", ", ").split(", ") if timed else []
        assert set(names) == {name for name, step in own.items() if step is not None}
        assert sorted(own[name] for name in names) == [own[name] for name in names]
    return document


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standard") / "out"
    assert run("--output", folder, "--checkpoint-every", 8, "--quiet") == 0
    return folder


@pytest.fixture(scope="module")
def runs(written):
    """The same trainings by the library."""
    task = TokenTask(context_length=2, vocabulary=4)
    options: dict[str, Any] = {"steps": 20, "batch_size": 8, "evaluation": 16, "record_every": 5}
    return module.train_standard_seeds(Architecture(4, task.sequence_length, 8), task, (0, 1), **options)


@pytest.fixture
def pretended(monkeypatch):
    calls = []

    def pretend(*arguments, **more):
        calls.append((arguments, more))
        return pretend_standard_seeds(*arguments, **more)

    monkeypatch.setattr(module, "train_standard_seeds", pretend)
    return calls


def test_what_is_in_the_folder(written):
    assert sorted(os.listdir(written)) == sorted([*FILES, *FIGURES, "config.json", "checkpoints"])
    document = validate((written / "standard.json").read_text())
    assert document["config"] == json.loads((written / "config.json").read_text())
    assert not {"output", "resume", "checkpoint_every", "save_weights", "json"} & document["config"].keys()
    config = {"task": "pairs", "context_length": 2, "optimizer": "adam", "learning_rate": 0.001, "start_scale": 0.5}
    assert config.items() <= document["config"].items()
    lines = (written / "rows.csv").read_text().splitlines()
    assert lines[0] == "seed,measure,step,outcome,start,end,deviations" and len(lines) == 1 + 10


def test_the_answer_is_that_of_the_library(written, runs):
    document = json.loads((written / "standard.json").read_text())
    rows = {(row["seed"], row["measure"]): row for row in document["rows"]}
    timed = 0
    for seed, one in enumerate(runs):
        steps = emergence_steps(one, deviations=0.5)
        for place, name in enumerate(MEASURES):
            row = rows[seed, name]
            assert row["step"] == steps[name]
            timed += row["step"] not in (None, 0.0)
            values = one.summed[:, place] if place < 3 else getattr(one, name)
            assert (row["start"], row["end"]) == (values[0], values[-1])
            assert row["deviations"] == (one.deviations[-1, place] if place < 3 else None)
        told = document["runs"][seed]
        assert (told["last_step"], told["loss"], told["accuracy"]) == (20, one.loss[-1], one.accuracy[-1])
        for kind, layer in (("previous_token", 0), ("induction", 1)):
            score = one.head_scores[kind][-1, layer, 0]
            assert told[kind] == {"layer": layer, "head": 0, "above_chance": score}
    assert timed >= 1


def test_records_and_weights_are_those_of_the_library(written, runs):
    with np.load(written / "records.npz", allow_pickle=False) as records:
        assert records["steps"].tolist() == [0, 5, 10, 15, 20] and records["seeds"].tolist() == [0, 1]
        assert records["names"].tolist() == list(CIRCUIT)
        for seed, one in enumerate(runs):
            for name in ("summed", "deviations", "loss", "accuracy", "batch_loss", "batch_accuracy"):
                np.testing.assert_array_equal(records[name][seed], getattr(one, name))
            for name in CIRCUIT:
                np.testing.assert_array_equal(records[name][seed], getattr(one.progress, name))
                np.testing.assert_array_equal(records[f"{name}_chance"][seed], getattr(one.spread, name))
            for kind in KINDS:
                np.testing.assert_array_equal(records[kind][seed], one.head_scores[kind])
    with np.load(written / "weights.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"seeds", "tokens", "positions", "query", "key", "value", "output", "unembedding"}
        for seed, one in enumerate(runs):
            for name in set(arrays) - {"seeds"}:
                np.testing.assert_array_equal(arrays[name][seed], getattr(one.weights, name))


def test_an_interrupted_run_goes_on_to_the_same_files(written, drawn, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    take = engine.Run.take

    def interrupt(self, *arguments):
        take(self, *arguments)
        if self.done >= 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.Run, "take", interrupt)
    assert run("--output", out, "--checkpoint-every", 8) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "What was saved is kept: the same command with --resume goes on from there." in said.err
    assert sorted(os.listdir(out)) == ["checkpoints", "config.json"]
    monkeypatch.undo()
    assert run("--output", out, "--checkpoint-every", 8) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("--output must be one without states of a training (here up to step 8), unless --resume")
    assert sentence.count("\n") == 1
    assert run("--output", out, "--checkpoint-every", 8, "--resume") == 0
    assert "The training goes on from step 8." in capsys.readouterr().err
    for name in ("rows.csv", "records.npz", "weights.npz"):
        assert (out / name).read_bytes() == (written / name).read_bytes(), name
    document = json.loads((out / "standard.json").read_text())
    assert document["notes"] == ["The training goes on from step 8."]
    assert document["runs"] == json.loads((written / "standard.json").read_text())["runs"]


def test_an_interruption_before_anything_was_saved_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_standard_seeds", interrupt)
    assert run("--output", tmp_path / "new" / "folder") == 130
    assert os.listdir(tmp_path) == []


def test_a_training_that_is_not_finite(capsys, tmp_path):
    document = answer(capsys, *BASE, "--start-scale", "1e30", "--output", tmp_path / "out")
    assert (
        {row["outcome"] for row in document["rows"]} == {told["outcome"] for told in document["runs"]} == {"nonfinite"}
    )
    assert {row["start"] for row in document["rows"]} == {told["loss"] for told in document["runs"]} == {None}
    assert document["notes"] == [
        f"The training of seed {seed} was not finite from the start; that is where its records end." for seed in (0, 1)
    ]
    assert sorted(os.listdir(tmp_path / "out")) == ["config.json", "records.npz", "rows.csv", "standard.json"]
    assert run("--start-scale", "1e30", "--save-weights", tmp_path / "w.npz") == 0
    assert "No weights were saved: no training stayed finite." in capsys.readouterr().out
    assert not (tmp_path / "w.npz").exists()


def test_from_zero_there_is_no_chance_to_measure_by(capsys):
    document = answer(capsys, *BASE, "--start-scale", "0")
    of_circuit = [row for row in document["rows"] if row["measure"] in CIRCUIT]
    assert {row["step"] for row in of_circuit} == {None}
    assert {row["end"] for row in of_circuit} == {row["deviations"] for row in of_circuit} == {0.0}


def test_for_people(pretended, capsys):
    words = ("standard", "--seeds", "7", "3", "--heads", "2", "--steps", "100", "--tied")
    assert main([*words]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out and max(map(len, out.splitlines())) <= 80
    head, table, order, heads = re.split(r"\n\n(?=seed |Order|Best)", out)
    assert head.splitlines()[:3] == [
        "pairs, N = 8, V = 32, query uniform",
        "2 layers of 2 heads, D = 128, tokens fixed, positions fixed, unembedding tied",
        "adam at 0.001, 100 steps of 128 sequences, start scale 0.5",
    ]
    cells = [line.split() for line in table.splitlines()[2:] if line.strip()]
    expected = []
    for seed, factor in (("7", 1.0), ("3", 1.25)):
        for name, end in ENDS.items():
            reached, value = end * factor, end * factor * SPREAD
            expected.append([seed, name, f"{5 / reached * 100:.5g}", "0", f"{value:.4g}", f"{reached:.1f}"])
        expected += [[seed, "loss", "50", "3.466", "0"], [seed, "accuracy", "50", "0", "1"]]
    assert cells == expected
    assert order == "Order of emergence\n  seeds 7, 3: gamma_3, beta_2, alpha_3, loss = accuracy"
    assert " ".join(heads.split()) == "Best heads at the end (score above chance) " + " ".join(
        f"seed {seed}: previous token 0.750 by head 1 of the first layer, induction 0.500 by head 0 of the last"
        for seed in (7, 3)
    )
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out.rstrip() == table.rstrip()


def test_one_layer_has_no_beta_2(pretended, drawn, capsys, tmp_path):
    document = answer(capsys, "standard", "--layers", "1", "--output", tmp_path / "out")
    assert document["notes"] == ["One layer has no beta_2, which is between two."]
    assert [row["step"] is None for row in document["rows"]] == [False] * 4
    assert document["runs"][0]["previous_token"]["layer"] == document["runs"][0]["induction"]["layer"] == 0


def test_options_reach_the_training(pretended, capsys):
    words = (
        "--task repeated --period fixed --context-length 3 --vocabulary 5 --layers 3 --heads 2 --head-dim 7 --scaled "
    )
    words += "--tokens learned --positions learned --embedding-dim 6 --optimizer adamw --learning-rate 0.01 --b1 0.5 "
    words += (
        "--weight-decay 0.1 --schedule cosine --warmup 2 --steps 9 --batch-size 4 --start-scale 0.25 --seeds 5 6 5 "
    )
    words += "--record-every 3 --evaluation 2 --dtype float64"
    config = answer(capsys, "standard", *words.split())["config"]
    (((architecture, task, seeds), more),) = pretended
    assert task == TokenTask(3, 5, kind="repeated", period="fixed") and seeds == (5, 6)
    sizes = {"embedding_dim": 6, "layers": 3, "heads": 2, "head_dim": 7, "scaled": True}
    assert architecture == Architecture(5, 6, tokens="learned", positions="learned", **sizes)
    assert (more.pop("checkpoints"), more.pop("on_progress")) == (None, None)
    optimizer = more.pop("optimizer")
    assert (optimizer.name, optimizer.learning_rate, optimizer.options()) == (
        "adamw", 0.01, {"b1": 0.5, "weight_decay": 0.1, "schedule": "cosine", "warmup": 2}
    )  # fmt: skip
    expected = {"steps": 9, "batch_size": 4, "scale": 0.25, "record_every": 3, "evaluation": 2, "dtype": "float64"}
    assert more == expected
    assert config["seeds"] == [5, 6] and (sizes | {"warmup": 2, "deviations": 5.0}).items() <= config.items()


def test_save_weights(pretended, capsys, tmp_path):
    file = tmp_path / "weights.npz"
    assert run("--save-weights", file, "--tied") == 0
    assert f"Written to {file}" in capsys.readouterr().out
    with np.load(file, allow_pickle=False) as arrays:
        assert set(arrays) == {"seeds", "tokens", "positions", "query", "key", "value", "output"}
        assert arrays["tokens"].shape == (2, 4, 8) and arrays["tokens"][:, 0, 0].tolist() == [1.0, 1.25]
    before = file.read_bytes()
    assert run("--save-weights", file) == 2
    assert "(there is one already, which is never overwritten)" in capsys.readouterr().err
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["weights.npz"]


def test_weights_that_cannot_be_saved_in_the_end(monkeypatch, capsys, tmp_path):
    file = tmp_path / "weights.npz"

    def meanwhile(*arguments, **more):
        file.write_text("mine")
        return pretend_standard_seeds(*arguments, **more)

    monkeypatch.setattr(module, "train_standard_seeds", meanwhile)
    assert run("--save-weights", file) == 1
    out, err = capsys.readouterr()
    assert "gamma_3" in out and "Written" not in out
    assert err.startswith("The weights could not be saved to ") and err.count("\n") == 1
    assert file.read_text() == "mine"


def test_another_configuration_is_refused(written, capsys):
    before = (written / "standard.json").read_bytes()
    assert run("--output", written, "--start-scale", "0.25") == 2
    assert "whose config.json is another (other start_scale)." in capsys.readouterr().err
    assert (written / "standard.json").read_bytes() == before


def test_a_folder_of_somebody_else_is_refused(pretended, tmp_path, capsys):
    (tmp_path / "standard.json").write_text("mine")
    assert run("--output", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"--output must be a folder of this command; got '{tmp_path}', which holds standard.json without config.json.\n"
    )
    assert os.listdir(tmp_path) == ["standard.json"] and pretended == []


def test_exhausted_memory_is_a_sentence(monkeypatch, capsys, tmp_path):
    def fail(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr(module, "train_standard_seeds", fail)
    assert run("--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert said.out == "" and "not enough memory" in said.err and os.listdir(tmp_path) == []


def test_without_orbax(monkeypatch, capsys, tmp_path):
    from induction_dynamics.training import saving

    monkeypatch.setattr(saving.importlib.util, "find_spec", lambda name: None)
    assert run("--output", tmp_path / "out", "--checkpoint-every", "5") == 2
    assert "pip install 'induction-dynamics[checkpoints]'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--task triples", "--task must be pairs or repeated; got 'triples'."),
        (
            "--vocabulary 7",
            "--vocabulary must be a whole number from 8 (the distinct tokens of a sequence) to 65536; g",
        ),
        ("--context-length 0", "--context-length must be a whole number, at least 1; got '0'."),
        ("--context-length 4097", "--context-length must be a whole number, at most 4096; got '4097'."),
        ("--context-length 1 --task repeated", "--context-length must be a whole number from 2 to 4096; got '1'."),
        ("--heads 3", "--heads must be a divisor of embedding_dim, 128, unless head_dim is given; got '3'."),
        ("--embedding-dim 0", "--embedding-dim must be a whole number, at least 1; got '0'."),
        ("--layers 65", "--layers must be a whole number of layers, at most 64; got '65'."),
        ("--steps -5", "--steps must be a whole number of steps, at least 1; got '-5'."),
        ("--steps 0", "--steps must be a whole number of steps, at least 1; got '0'."),
        ("--batch-size 9999999", "--batch-size must be a whole number of sequences, at most 1048576; got '9999999'."),
        ("--start-scale -1", "--start-scale must be a finite number, at least 0; got '-1'."),
        ("--deviations 0", "--deviations must be a finite number above 0; got '0'."),
        ("--seeds", "--seeds must each be a whole number, at least 0; got no value."),
        ("--tokens moving", "--tokens must be fixed or learned; got 'moving'."),
        ("--optimizer gd", "--optimizer must be sgd, adam or adamw; got 'gd'."),
        ("--momentum 0.5", "--momentum must be left out with the optimizer adam (it is of sgd); got '0.5'."),
        ("--nesterov", "--nesterov must be left out with the optimizer adam (it is of sgd); got True."),
        ("--warmup 1000", "--warmup must be less than the number of steps, which is 1000; got '1000'."),
        ("--dtype float16", "--dtype must be float32 or float64; got 'float16'."),
        ("--task repeated --query last", "--query must be left out with the task repeated, which has no query."),
        ("--period fixed", "--period must be left out with the task pairs, which has no period."),
        ("--checkpoint-every 5", "--checkpoint-every must come with --output"),
        ("--keep 3", "--keep must come with --checkpoint-every"),
        ("--resume --output x", "--resume must come with --output and --checkpoint-every"),
        ("--save-weights w.safetensors", "--save-weights must be the path of a new .npz file; got 'w.safetensors'."),
        ("--save-weights no/w.npz", "--save-weights must be a new .npz file in a folder that can be written; got 'no/"),
        ("--scaled yes", "--scaled takes no value; got 'yes' as well."),
        ("--model full", "'--model' is no option of induction-dynamics standard"),
    ],
)
def test_refuses(pretended, words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["standard", *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(sentence) and said.err.count("\n") == 1, said.err
    assert os.listdir(tmp_path) == [] and pretended == []


@pytest.mark.parametrize("words", ["--output file", "--output file/out", "--save-weights file/w.npz"])
def test_places_that_cannot_be_written_to(pretended, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert main(["standard", *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(words.split()[0] + " must be ") and said.err.count("\n") == 1
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode) and os.listdir(tmp_path) == ["file"] and pretended == []
