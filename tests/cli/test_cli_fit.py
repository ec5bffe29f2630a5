"""`fit`: the table, its words and its document, from ledgers whose laws are known; and every refusal."""

import json
import os

import pytest

from induction_dynamics.cli import conditions, main
from induction_dynamics.cli.fit import _interval
from induction_dynamics.cli.studies import study_names
from induction_dynamics.scaling.curves import LABELS
from induction_dynamics.scaling.ledger import FILE, open_ledger
from tests.scaling.known_laws import LENGTHS, entry, fill, point, runs


@pytest.fixture
def one(tmp_path):
    """A folder of one study: three seeds of the full model."""
    return str(fill(tmp_path / "one", runs(seeds=3)))


@pytest.fixture
def several(tmp_path):
    """A folder in which models, batch sizes and rotations differ."""
    entries = [*runs(batch_size=16), *runs(batch_size=64, factor=1.5), *runs(model="circuit")]
    return str(fill(tmp_path / "several", [*entries, *runs(rotation=60.0)]))


def printed(capsys, *argv):
    assert main(["fit", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def answer(capsys, *argv):
    document = json.loads(printed(capsys, *argv, "--json"))
    assert list(document) == ["schema_version", "command", "config", "rows", "fits", "notes"]
    assert document["command"] == "fit"
    return document


def refused(capsys, *argv):
    assert main(["fit", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith((".\n", "?\n"))
    return err.strip()


def cells(out):
    """The table's lines, split at wherever two spaces are."""
    lines = out.splitlines()
    (rule,) = (place for place, line in enumerate(lines) if line.startswith("──"))
    body = lines[rule + 1 :]
    ends = [place for place, line in enumerate(body) if line.startswith("Laws for")]
    found = [line.split() for line in body[: ends[0] if ends else None]]
    return lines[rule - 1].split(), [line for line in found if line]


def test_columns_are_those_of_curves():
    assert conditions.COLUMNS == LABELS


def test_a_line_for_each_curve_and_law(capsys, one):
    out = printed(capsys, one)
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out
    for part in ("one, full", "query last", "3 seeds", "batch size 64", "D = 2N + 2", "2N + 1 tokens", "95 %"):
        assert part in out, part
    heading, lines = cells(out)
    assert heading == ["measure", "law", "parameters", "dAICc"]
    first = [line for line in lines if line[0] in ("alpha_3", "gamma_3", "loss")]
    assert [line[:2] for line in first] == [
        [measure, law] for measure in ("alpha_3", "gamma_3", "loss") for law in ("power", "quadratic", "quadratic_log")
    ]
    assert [line[:2] for line in first if line[-1] == "*"] == [["alpha_3", "quadratic_log"], ["gamma_3", "power"]]
    assert all(line[-2] == "0.0" for line in first if line[-1] == "*")
    power = lines[lines.index(first[3]) + 1]
    assert power[:2] == ["p", "="] and float(power[2]) == pytest.approx(1.5, abs=0.03)
    assert float(power[3].strip("[,")) < 1.5 < float(power[4].strip("]"))


def test_what_the_data_cannot_decide_is_said_and_nothing_else(capsys, one):
    out = printed(capsys, one)
    (said,) = [line for line in out.splitlines() if "at 0.5" in line]
    assert said.startswith("  full, loss at 0.5: p = ") and said.endswith("; the data do not")
    quiet = printed(capsys, one, "--quiet")
    assert "Laws" not in quiet and "one, full" not in quiet and cells(quiet) == cells(out)


def test_points_without_a_time_are_said_of_a_decided_law_too(capsys, tmp_path):
    entries = [*runs(), entry(point(48), without=["gamma_3"], outcome="solver_failed")]
    out = printed(capsys, str(fill(tmp_path / "late", entries)), "--where", "measure=gamma_3")
    assert "preferred: power" in " ".join(out.split())
    assert "Censored and not fitted: 1 of 22 points. Failed: 1 of 22 runs." in " ".join(out.split())


def test_too_few_points_are_a_note(capsys, tmp_path):
    folder = str(fill(tmp_path / "few", runs(lengths=(4, 8))))
    for words in ((), ("--quiet",)):
        out = printed(capsys, folder, "--where", "measure=loss", *words)
        assert "full, loss at 0.5: no law fitted, which takes at least 3 distinct values" in out
    document = answer(capsys, folder)
    assert document["fits"] == [] and len(document["notes"]) == 3


def test_many_labels_still_fit_in_80_columns(capsys, several):
    out = printed(capsys, several)
    assert max(map(len, out.splitlines())) <= 80
    heading, lines = cells(out)
    assert heading[0] == "curve"
    assert sum(line[-1] == "*" for line in lines) == 8
    for part in ("circuit", "batch size 16", "batch size 64", "rotation 60 degrees", "rotation 90 degrees"):
        assert part in out, part
    assert "have no noise" in out


def test_few_labels_have_columns(capsys, several):
    out = printed(capsys, several, "--where", "rotation=90", "model=full", "measure=loss", "measure=gamma_3")
    heading, lines = cells(out)
    assert heading == ["measure", "batch", "law", "parameters", "dAICc"]
    named = [line for line in lines if line[0] in ("loss", "gamma_3")]
    assert [line[:2] for line in named[::3]] == [["gamma_3", "16"], ["loss", "16"], ["gamma_3", "64"], ["loss", "64"]]
    assert "have no noise" not in out


def test_the_document(capsys, one):
    document = answer(
        capsys, one, "--confidence", "0.5", "--where", "measure=loss", "context_length=4", "seed=0", "seed=1"
    )
    assert document["config"] | {"versions": 0} == {
        "folders": [one],
        "by": ["model", "inputs", "query", "measure", "threshold"],
        "where": ["measure=loss", "context_length=4", "seed=0", "seed=1"],
        "confidence": 0.5,
        "versions": 0,
    }
    assert [(row["study"], row["context_length"], row["seed"]) for row in document["rows"]] == [
        ("one", 4, 0),
        ("one", 4, 1),
    ]
    fits = answer(capsys, one, "--confidence", "0.5")["fits"]
    assert [(fit["measure"], fit["law"]) for fit in fits if fit["preferred"]] == [
        ("alpha_3", "quadratic_log"),
        ("gamma_3", "power"),
    ]
    assert {(fit["confidence"], fit["points"], fit["censored"]) for fit in fits} == {(0.5, 21, 0)}
    wide = answer(capsys, one)["fits"][0]["parameters"]["p"]
    narrow = fits[0]["parameters"]["p"]
    assert wide["low"] < narrow["low"] < narrow["value"] == wide["value"] < narrow["high"] < wide["high"]


def test_chosen_columns_pool_the_others_and_it_is_said(capsys, several):
    out = " ".join(printed(capsys, several, "--by", "measure", "--where", "measure=loss").split())
    assert "Pooled, each curve over several values: model (circuit, full), rotation (90, 60)" in out
    assert "batch_size (none, 64, 16)" in out or "batch_size (none, 16, 64)" in out
    document = answer(capsys, several, "--by", "measure", "--by", "batch-size")
    assert document["config"]["by"] == ["measure", "batch_size"]
    assert {(fit["measure"], fit["batch_size"]) for fit in document["fits"]} == {
        (measure, size) for measure in ("alpha_3", "gamma_3", "loss") for size in (None, 16, 64)
    }


def test_two_studies_side_by_side(capsys, tmp_path, one):
    other = str(fill(tmp_path / "other", runs(factor=2.0)))
    fits = answer(capsys, one, other, "--where", "measure=loss")["fits"]
    found = {fit["study"]: fit["parameters"]["c"]["value"] for fit in fits if fit["law"] == "power"}
    assert list(found) == ["one", "other"] and found["other"] == pytest.approx(2 * found["one"])
    heading, lines = cells(printed(capsys, one, other, "--quiet"))
    assert heading[:2] == ["study", "measure"]
    named = [line[:2] for line in lines if line[0] in ("one", "other")]
    assert named[::3] == [[study, name] for name in ("alpha_3", "gamma_3", "loss") for study in ("one", "other")]
    only = answer(capsys, one, other, "--where", "study=other")
    assert {row["study"] for row in only["rows"]} == {"other"} and "study" not in only["fits"][0]


def test_folders_of_one_name_stay_apart_and_one_folder_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("a")
    os.symlink("a", "link")
    assert study_names(["a", "./a", "a/", "link"]) == {"a": "a"}
    assert study_names(["x/a", "y/a", "y/b"]) == {"x/a": "x/a", "y/a": "y/a", "y/b": "b"}
    assert study_names(["."]) == {".": "."}


def test_a_sweep_may_be_at_work(capsys, tmp_path):
    with open_ledger(tmp_path / "busy") as ledger:
        for found in runs(seeds=1, lengths=LENGTHS[:5]):
            ledger.put(found)
        fits = answer(capsys, str(tmp_path / "busy"))["fits"]
    assert {fit["points"] for fit in fits} == {5}


WRONG = [
    (["--by", "modle"], "--by must each be one of study, model, "),
    (["--by", "modle"], "(did you mean model?); got 'modle'."),
    (["--by", "context_length"], "hold or training; got 'context_length'."),
    (["--where", "modle=full"], "(did you mean model?); got 'modle=full'."),
    (["--where", "full"], "--where must each be COLUMN=VALUE, such as model=full; got 'full'."),
    (["--where", "model=transformer"], "with model circuit, subspace or full; got 'model=transformer'."),
    (["--where", "batch_size=x"], "with batch_size a whole number, at least 0, or none where there is none; got"),
    (["--where", "rotation=none"], "--where must each be COLUMN=VALUE, with rotation a finite number; got"),
    (["--where", "embedding_dim=3N"], "with embedding_dim a whole number, 2N+2 or 4N; got 'embedding_dim=3N'."),
    (["--where", "measure=loss", "measure=x"], "with measure a coordinate such as alpha_3, or loss; got 'measure=x'."),
    (["--where", "study="], "with study the name of a folder; got 'study='."),
    (["--where", "model=circuit"], "--where must be of what is there (model=full); got 'model=circuit'."),
    (["--where", "seed=0", "seed=7"], "there (seed=0, seed=1, seed=2); got 'seed=7'."),
    (["--where", "study=two"], "--where must be of what is there (study=one); got 'study=two'."),
    (["--confidence", "1"], "--confidence must be a number strictly between 0 and 1; got '1'."),
    (["--json", "x"], "--json takes no value; got 'x' as well."),
    (["--colour"], "'--colour' is no option of induction-dynamics fit"),
]


@pytest.mark.parametrize(("words", "part"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_values_are_refused(capsys, one, words, part):
    before = os.listdir(one)
    assert part in refused(capsys, one, *words)
    assert os.listdir(one) == before


def test_values_that_never_occur_together_are_refused(capsys, tmp_path):
    folder = str(fill(tmp_path / "x", [*runs(1, batch_size=16), *runs(1, rotation=60.0)]))
    sentence = refused(capsys, folder, "--where", "batch_size=16", "rotation=60")
    assert sentence.startswith("--where must leave a row") and sentence.endswith("got 'batch_size=16 rotation=60'.")


def test_folders_without_results_are_refused(capsys, tmp_path, one):
    assert refused(capsys) == "DIR is missing: it must be the path of a folder that 'sweep' has written."
    missing = str(tmp_path / "missing")
    assert refused(capsys, one, missing) == (
        f"DIR must be a folder that 'sweep' has written, with its {FILE}; got '{missing}'."
    )
    assert not os.path.exists(missing)
    (tmp_path / "plain").mkdir()
    assert "DIR must be a folder that 'sweep' has written" in refused(capsys, str(tmp_path / "plain"))
    empty = str(fill(tmp_path / "empty", []))
    assert refused(capsys, one, empty).startswith("DIR must be a folder with results; got ")
    with open(tmp_path / "empty" / FILE, "r+b") as file:
        file.write(b"damaged")
    assert f"DIR must be one whose {FILE} is a whole ledger" in refused(capsys, empty)


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        ((1.84231, 1.82412, 1.86049), "1.842 [1.824, 1.860]"),
        ((2.0, 2.0, 2.0), "2.0000 [2.0000, 2.0000]"),
        ((0.0, 0.0, 0.0), "0.0000 [0.0000, 0.0000]"),
        ((-0.1, -0.35, 0.15), "-0.100 [-0.350, 0.150]"),
        ((123.4, 100.0, 146.8), "123 [100, 147]"),
        ((1e-6, 0.5e-6, 1.5e-6), "1.00e-06 [5.00e-07, 1.50e-06]"),
        ((1e300, 0.0, 1.79e308), "1.00e+300 [0.00e+00, 1.79e+308]"),
        ((0.0, -1.79e308, 1.79e308), "0.00e+00 [-1.79e+308, 1.79e+308]"),
    ],
)
def test_an_interval_is_shown_to_two_digits_of_its_width(interval, shown):
    assert _interval(*interval) == shown
