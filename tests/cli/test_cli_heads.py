"""`heads`: attention in a file to scores of every head; whatever the file is, an answer or one sentence."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_dynamics.cli import main
from induction_dynamics.heads import KINDS, head_scores

TOKENS = np.tile(np.arange(6), 2)
FORMAT = "an .npz file with the arrays attention and tokens"


def random_attention(*axes, strict=False, length=12, seed=0):
    weights = np.random.default_rng(seed).exponential(size=(*axes, length, length)) * np.tri(length, k=-int(strict))
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)


def written(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def good(tmp_path):
    """Three layers of two heads, of which layer 2, head 0 matches prefixes."""
    attention = random_attention(3, 2)
    attention[2, 0, 6:] = np.eye(12)[1:7]
    return written(tmp_path / "attention.npz", attention=attention.astype(np.float32), tokens=TOKENS)


def answer(capsys, *words):
    """The document that a command prints, checked against its schema."""
    assert main(["heads", *map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return validate(out)


def validate(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    own = {"layers", "heads", "length", "sequences", "chance"}
    assert set(document) == {"schema_version", "command", "config", "rows", "fits", "notes"} | own
    assert (document["schema_version"], document["command"]) == (1, "heads")
    assert (document["fits"], document["notes"]) == ([], [])
    assert set(document["config"]) == {"file", "strict", "top", "versions"}
    assert list(document["chance"]) == list(KINDS)
    for row in document["rows"]:
        assert list(row) == ["layer", "head", *(name for kind in KINDS for name in (kind, f"{kind}_above_chance"))]
        for kind in KINDS:
            assert row[f"{kind}_above_chance"] == row[kind] - document["chance"][kind]
    induction = [row["induction_above_chance"] for row in document["rows"]]
    assert induction == sorted(induction, reverse=True)
    places = {(row["layer"], row["head"]) for row in document["rows"]}
    assert len(places) == len(induction) <= document["layers"] * document["heads"]
    return document


def refused(capsys, *words):
    """The sentence, after checking that there is nothing else."""
    status = main(["heads", *map(str, words)])
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), (status, out, err)
    assert err.endswith((".\n", "?\n")) and err.count("\n") == 1 and "Traceback" not in err, err
    return err.strip()


def test_every_head(capsys, good):
    document = answer(capsys, good)
    with np.load(good) as arrays:
        expected = head_scores(arrays["attention"], arrays["tokens"])
    assert document["config"]["file"] == str(good)
    assert (document["layers"], document["heads"], document["length"], document["sequences"]) == (3, 2, 12, 1)
    assert document["chance"] == {kind: scores.chance for kind, scores in expected.items()}
    assert len(document["rows"]) == 6
    for row in document["rows"]:
        assert all(row[kind] == scores.score[row["layer"], row["head"]] for kind, scores in expected.items())
    first = document["rows"][0]
    assert (first["layer"], first["head"], first["induction"]) == (2, 0, 1)
    top = answer(capsys, good, "--top", 2)
    assert top["rows"] == document["rows"][:2] and top["config"]["top"] == 2
    assert answer(capsys, good, "--top", 1000)["rows"] == document["rows"]


def test_for_people(capsys, good):
    document = answer(capsys, good)
    assert main(["heads", str(good), "--top", "4"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out and max(map(len, out.splitlines())) <= 80 + len(str(good))
    head, _, rest = out.partition("\n\n")
    assert head == f"{good}\n3 layers, 2 heads in each, length 12, sequences: 1"
    lines = rest.splitlines()
    assert lines[0].split() == "layer head induction above duplicate above previous above".split()
    for line, row in zip(lines[2:6], document["rows"], strict=False):
        shown = [row["layer"], row["head"]]
        for kind in ("induction", "duplicate_token", "previous_token"):
            shown += [row[kind], row[f"{kind}_above_chance"]]
        np.testing.assert_allclose([float(word) for word in line.split()], shown, rtol=0, atol=5.01e-5)
    chance = document["chance"]
    assert lines[6:] == [
        "",
        "Above: above chance, which uniform attention scores.",
        f"Chance: induction {chance['induction']:.4g}, duplicate token {chance['duplicate_token']:.4g}, "
        f"previous token {chance['previous_token']:.4g}",
    ]
    assert main(["heads", str(good), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[:6] == lines[:6]


def test_sequences_and_a_strict_mask(capsys, tmp_path):
    attention = random_attention(4, 2, 3, strict=True)
    tokens = np.random.default_rng(1).integers(0, 4, size=(4, 12))
    path = written(tmp_path / "a.npz", attention=attention, tokens=tokens, more=np.array("left alone"))
    document = answer(capsys, path, "--strict")
    expected = head_scores(attention, tokens, strict=True)
    assert (document["layers"], document["heads"], document["sequences"]) == (2, 3, 4)
    assert document["config"]["strict"] is True
    assert document["chance"] == {kind: scores.chance for kind, scores in expected.items()}
    (row,) = [row for row in document["rows"] if (row["layer"], row["head"]) == (1, 2)]
    assert row["induction"] == expected["induction"].score[1, 2]


def test_files_that_are_refused(capsys, tmp_path, good):
    content = good.read_bytes()

    def bad(reason, path):
        assert refused(capsys, path) == f"FILE must be {FORMAT} (here {reason}); got '{path}'."

    def write(content):
        (tmp_path / "a.npz").write_bytes(content)
        return tmp_path / "a.npz"

    damaged = "it is damaged or of another kind"
    bad("there is no such file", tmp_path / "none.npz")
    bad("it is a folder", tmp_path)
    bad(damaged, write(b""))
    bad(damaged, write(b"neither"))
    bad(damaged, write(content[:-1]))
    bad(damaged, write(content[:700]))
    middle = len(content) // 3
    bad(damaged, write(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]))
    np.save(tmp_path / "a.npy", random_attention(1, 1))
    bad(damaged, tmp_path / "a.npy")
    bad(damaged, written(tmp_path / "a.npz", attention=np.array([[None]]), tokens=TOKENS))
    bad("attention is missing", written(tmp_path / "a.npz", tokens=TOKENS))
    bad("tokens is missing", written(tmp_path / "a.npz", attention=random_attention(1, 1), token=TOKENS))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(capsys, tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    assert "it is damaged or of another kind" in refused(capsys, tmp_path / "a.npz")


def test_nothing_is_unpickled(capsys, tmp_path):
    """A file that would write another, were it trusted."""
    told = tmp_path / "told"

    class Planted:
        def __reduce__(self):
            return (Path.touch, (told,))

    path = written(tmp_path / "a.npz", attention=np.array([Planted()], object), tokens=TOKENS)
    assert "it is damaged or of another kind" in refused(capsys, path)
    assert not told.exists()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"attention": np.zeros((12, 12))}, "attention must be of shape [layers, heads, length, length] or"),
        ({"attention": random_attention(1, 1) * 2}, "attention must be of rows that sum to 1 within 0.005 (here row 0"),
        ({"attention": random_attention(1, 1) * np.nan}, "attention must be finite; got nan."),
        (
            {"attention": np.full((1, 1, 12, 12), 1 / 12)},
            "attention must be 0 above the diagonal, where the mask hides",
        ),
        (
            {"attention": random_attention(1, 1, strict=True)},
            "(here row 0 of layer 0, head 0 has another sum); got 0.0.",
        ),
        ({"attention": random_attention(1, 1).astype("V8")}, "attention must be real numbers; got '|V8'."),
        ({"tokens": TOKENS[:-1]}, "tokens must be of the shape that fits attention, (12,); got (11,)."),
        ({"tokens": TOKENS / 2}, "tokens must be whole numbers; got 'float64'."),
        ({"tokens": np.arange(12)}, "tokens must be of sequences in which a token comes back; got '[ 0  1  2 ..."),
    ],
)
def test_arrays_that_are_refused(capsys, tmp_path, arrays, sentence):
    path = written(tmp_path / "a.npz", **{"attention": random_attention(1, 1), "tokens": TOKENS} | arrays)
    told = refused(capsys, path)
    assert told.startswith(f"In '{path}', ") and " ".join(sentence.split()) in told


def test_the_mask_must_be_told(capsys, good):
    told = refused(capsys, good, "--strict")
    assert "attention must be 0 on and above the diagonal, where the strict mask hides keys from a query; got" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--top", "0"], "--top must be a whole number of heads, at least 1; got '0'."),
        (["--top"], "--top must be a whole number of heads, at least 1; got no value."),
        (["--strict", "no"], "--strict takes no value; got 'no' as well."),
        (["--heads", "3"], "'--heads' is no option of induction-dynamics heads"),
    ],
)
def test_options_that_are_refused(capsys, good, words, sentence):
    assert sentence in refused(capsys, good, *words)


def test_exhausted_memory_is_a_sentence(capsys, monkeypatch, good):
    def fail(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr("induction_dynamics.heads.head_scores", fail)
    assert main(["heads", str(good)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "not enough memory" in err
    monkeypatch.setattr("numpy.load", fail)
    assert "(here it does not fit into memory)" in refused(capsys, good)


def stored():
    with tempfile.TemporaryDirectory() as folder:
        path = written(
            Path(folder) / "a.npz", attention=random_attention(1, 2, length=4), tokens=np.array([1, 2, 1, 2])
        )
        return path.read_bytes()


CONTENT = stored()


@st.composite
def file_contents(draw):
    """Bytes of any kind, the beginning of a file, or a file with some bytes changed."""
    kind = draw(st.sampled_from(["any", "cut", "changed"]))
    if kind == "any":
        return draw(st.sampled_from([b"", CONTENT[:40], CONTENT[:200]])) + draw(st.binary(max_size=300))
    if kind == "cut":
        return CONTENT[: draw(st.integers(0, len(CONTENT)))]
    changed = bytearray(CONTENT)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), max_size=5)):
        changed[place] = value
    return bytes(changed)


@settings(deadline=None, max_examples=100)
@given(content=file_contents(), json_wanted=st.booleans())
def test_any_file(content, json_wanted):
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.npz").write_bytes(content)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["heads", f"{folder}/a.npz", *["--json"] * json_wanted])
        assert len(list(Path(folder).iterdir())) == 1
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == "" and err.getvalue().count("\n") == 1
        assert err.getvalue().startswith(("FILE must be ", "In '")) and folder in err.getvalue(), err.getvalue()
    else:
        assert err.getvalue() == ""
        if json_wanted:
            validate(out.getvalue())
