"""The built wheel: conf/ travels in it and it runs away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT


def test_wheel(tmp_path, empty_store):
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"kernelexp/{path.relative_to(ROOT)}" in names
    assert {"kernelexp/report/page.html", "kernelexp/report/figures/rkhs_norm.csv"} <= names
    assert not any(name.endswith((".npz", ".db")) or name.startswith("tests") for name in names)
    entry = next(Path(tmp_path / "site").glob("*.dist-info/entry_points.txt")).read_text()
    assert "kernelexp = kernelexp.__main__:main" in entry
    # The installed files alone, in another folder: the editable checkout comes later on the path.
    done = subprocess.run(
        [sys.executable, "-c", "from kernelexp.__main__ import main; main()",
         "dataset.n_train=200", "solver.epochs=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"),
             "MLFLOW_TRACKING_URI": f"sqlite:///{shutil.copy(empty_store, tmp_path)}"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RKHS norm" in done.stdout
