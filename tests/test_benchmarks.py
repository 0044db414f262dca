"""Benchmarks that run where nobody can look: at small sizes they have to work anywhere."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

GPU = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def test_values_beside_those_of_the_papers_are_of_the_tables_that_are_kept(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU.parent))
    made = importlib.import_module("paper_values")
    _, rows, verdict = made.rows_of(made.tables())
    kept = GPU.parent / "results" / "paper_values"
    assert rows == json.loads(kept.with_suffix(".json").read_text())["rows"]
    assert verdict in kept.with_suffix(".md").read_text()


def test_the_gpu_benchmark_runs_with_pytorch_and_numpy_alone(tmp_path):
    blocked = "hydra", "omegaconf", "mlflow", "torchvision", "sklearn", "pandas"
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"sys.argv = ['gpu.py', '--small', '--out', {str(tmp_path)!r}]\n"
        f"sys.path.insert(0, {str(GPU.parent)!r}); runpy.run_path({str(GPU)!r}, run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    parts = found["parts"]
    assert len(parts) == 7
    rank_free = {name: part for name, part in parts.items() if name != "two_ranks"}
    assert not [part for part in rank_free.values() if "failed" in part["rows"][0]], ran.stderr
    assert {row["kernel"] for row in parts["kernels"]["rows"]} >= {"laplacian", "relu_ntk"}
    assert "## five_epochs" in (tmp_path / "gpu.md").read_text()


def test_two_ranks_on_one_device(tmp_path):
    """Spawned processes begin with the file itself."""
    code = f"import sys; sys.path.insert(0, {str(GPU.parent)!r}); import gpu; print(gpu.two_ranks(None, True))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'ranks': 2" in ran.stdout, ran.stderr
