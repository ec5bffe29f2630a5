"""The workers of a Dask cluster, one of them killed in the midst of a sweep: every point arrives, once."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("distributed")

SCRIPT = """
import json, os, signal, sys, threading, time
os.environ["JAX_ENABLE_X64"] = "1"
from distributed import Client, LocalCluster

if __name__ == "__main__":
    import jax
    jax.config.update("jax_enable_x64", True)
    from induction_dynamics.scaling.ledger import Ledger, read_ledger
    from induction_dynamics.scaling.study import run_sweep
    from induction_dynamics.scaling.points import Point
    from induction_dynamics.task import Task

    folder, written, killed = sys.argv[1], [], []
    points = [Point(Task(2), "full", seed=seed, batch_size=256, step=0.25) for seed in range(12)]
    points += [Point(Task(n), "circuit") for n in (4, 8)]
    put = Ledger.put
    Ledger.put = lambda self, entry, *rest: (written.append(entry.point), put(self, entry, *rest))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        workers = list(client.run(os.getpid).values())

        def kill():
            while not killed:
                time.sleep(0.02)
                if 1 <= len(written) < len(points) - 3:
                    os.kill(workers[0], signal.SIGKILL)
                    killed.append(workers[0])

        threading.Thread(target=kill, daemon=True).start()
        result = run_sweep(points, folder, executor=client.get_executor())
    print(json.dumps({
        "workers": len(workers), "killed": len(killed), "written": len(written), "distinct": len(set(written)),
        "computed": result.computed, "failed": len(result.failed), "there": len(read_ledger(folder)),
        "emerged": [row["outcome"] for row in result.rows()].count("emerged"),
    }))
"""


@pytest.mark.slow
def test_a_worker_of_a_cluster_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "sweep")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    expected = {"workers": 2, "killed": 1, "written": 14, "distinct": 14, "computed": 14, "failed": 0, "there": 14}
    assert {name: found[name] for name in expected} == expected
    assert found["emerged"] > 14
