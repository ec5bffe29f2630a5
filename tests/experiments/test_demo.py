"""The demo tells the story of the committed numbers, in 80 columns."""

from experiments import demo
from experiments.context_length_scaling import ScalingConfig


def test_the_demo_tells_what_it_found(tmp_path, table, capsys):
    config = demo.DemoConfig(tmp_path, circuit_lengths=(4, 8, 16), subspace_lengths=(4,), full_lengths=(4,))
    document = demo.main(config)
    said = capsys.readouterr().out
    assert "full/subspace" in said and "Laws for T(N)" in said and "circuit, alpha_3 at 0.5: p = " in said
    assert max(map(len, said.splitlines()[:-1])) <= 80  # the last line names the folder
    assert len(document["rows"]) == 4 * (2 * 3 + 2 + 1)
    assert document["config"]["command"] == "make demo"
    committed = {
        (row["query"], row["model"], row["context_length"], row["measure"]): row["time"]
        for row in table("context_length_scaling", "rows")
    }
    for row in document["rows"]:
        expected = committed[row["query"], row["model"], row["context_length"], row["measure"]]
        assert abs(row["time"] / expected - 1) < (1e-2 if row["model"] == "full" else 1e-7)


def test_the_demo_runs_a_part_of_what_is_committed():
    short, whole = demo.DemoConfig(), ScalingConfig()
    for name in ("circuit_lengths", "subspace_lengths", "full_lengths", "full_lengths_last"):
        assert set(getattr(short, name)) <= set(getattr(whole, name))
    assert (short.batch_size, short.step, short.seed) == (whole.batch_size, whole.step, whole.seed)
