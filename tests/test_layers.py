"""The layers of docs/design.md, read off the imports: nothing below reaches up."""

import ast
import graphlib
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "kernelexp"
ALLOWED = {
    "engine": {"torch", "numpy", "triton", "kernelexp.engine"},
    "data": {"torch", "numpy", "pyarrow", "torchvision", "sklearn", "platformdirs", "kernelexp.data",
             "kernelexp.engine.registry", "kernelexp.engine.checks"},
    "experiment": {"torch", "kernelexp.checkpoint", "kernelexp.comparisons", "kernelexp.data",
                   "kernelexp.engine", "kernelexp.experiment", "kernelexp.interrupts",
                   "kernelexp.metrics"},
    "comparisons.py": {"torch", "kernelexp.engine", "kernelexp.peers"},
    "peers.py": {"torch", "numpy", "sklearn", "kernelexp.engine"},
    "forecast.py": {"torch", "kernelexp.comparisons", "kernelexp.data", "kernelexp.engine",
                    "kernelexp.experiment"},
    "forecast_time.py": {"torch", "kernelexp.comparisons", "kernelexp.data", "kernelexp.engine", "kernelexp.experiment", "kernelexp.forecast"},
    "epochs_before.py": {"mlflow", "kernelexp.experiment", "kernelexp.metrics"},
    "checkpoint": {"torch", "numpy", "safetensors", "kernelexp.checkpoint", "kernelexp.commit",
                   "kernelexp.engine"},
    "metrics.py": set(),
    "commit.py": {"kernelexp"},
    "identity.py": {"mlflow", "kernelexp.commit", "kernelexp.metrics"},
    "gpus.py": {"torch"},
    "cluster.py": {"omegaconf", "kernelexp.forecast", "kernelexp.jobs"},
    "rank_place.py": set(),
    "rank_processes.py": {"torch", "kernelexp.engine", "kernelexp.experiment", "kernelexp.interrupts",
                          "kernelexp.rank_place"},
    "liveness.py": set(),
    "claims.py": {"mlflow", "kernelexp.liveness"},
    "resume.py": {"mlflow", "kernelexp.claims", "kernelexp.identity", "kernelexp.interrupts",
                  "kernelexp.liveness"},
    "current_sweep.py": set(),
    "store": {"mlflow", "numpy", "requests", "sqlalchemy", "kernelexp", "kernelexp.commit",
              "kernelexp.engine.checks", "kernelexp.experiment", "kernelexp.interrupts", "kernelexp.liveness",
              "kernelexp.metrics", "kernelexp.resume",
              "kernelexp.serving", "kernelexp.store", "kernelexp.sweep"},
    "tracking.py": {"mlflow", "kernelexp.claims", "kernelexp.current_sweep", "kernelexp.engine.memory", "kernelexp.experiment", "kernelexp.identity", "kernelexp.metrics",
                    "kernelexp.interrupts", "kernelexp.resume", "kernelexp.store"},
    "serving.py": {"torch", "numpy", "pyarrow", "kernelexp.data", "kernelexp.engine"},
    "loading.py": {"mlflow", "kernelexp.identity", "kernelexp.metrics", "kernelexp.resume", "kernelexp.serving", "kernelexp.store"},
    "options.py": set(),
    "predict.py": {"numpy", "pyarrow", "kernelexp.data", "kernelexp.loading", "kernelexp.options", "kernelexp.serving"},
    "sweep.py": {"mlflow", "kernelexp.claims", "kernelexp.current_sweep", "kernelexp.identity",
                 "kernelexp.interrupts", "kernelexp.liveness", "kernelexp.resume", "kernelexp.store", "kernelexp.sweep_outcome"},
    "sweep_outcome.py": {"mlflow", "kernelexp.identity", "kernelexp.metrics", "kernelexp.resume", "kernelexp.store.delivery"},
    "search/space.py": {"hydra", "optuna", "kernelexp.engine"},
    "search/trials.py": {"optuna", "kernelexp.search"},
    "search/pruning.py": {"mlflow", "kernelexp.experiment", "kernelexp.metrics"},
    "search/rungs.py": set(),
    "console.py": {"rich", "kernelexp.current_sweep", "kernelexp.experiment", "kernelexp.forecast_time", "kernelexp.metrics", "kernelexp.resume", "kernelexp.tracking"},
    "sklearn.py": {"sklearn", "numpy", "kernelexp.engine", "kernelexp.estimator_parameters", "kernelexp.estimator_refit", "kernelexp.kernel_machine"},
    "kernel_machine.py": {"sklearn", "scipy", "torch", "numpy", "kernelexp.engine", "kernelexp.estimator_parameters", "kernelexp.estimator_refit", "kernelexp.estimator_validation"},
    "estimator_refit.py": {"torch", "kernelexp.engine", "kernelexp.estimator_parameters"},
    "estimator_validation.py": {"sklearn", "torch", "numpy", "kernelexp.engine"},
    "estimator_parameters.py": {"sklearn", "scipy", "torch", "numpy", "kernelexp.engine"},
    "usage.py": set(),
    "interrupts.py": set(),
    "streams.py": {"_typeshed"},
    "report": {"mlflow", "sqlalchemy", "pandas", "numpy", "scipy", "seaborn", "matplotlib", "jinja2", "kernelexp",
               "kernelexp.metrics", "kernelexp.options", "kernelexp.report"},
}  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "kernelexp":
                yield from (f"kernelexp.{alias.name}" for alias in node.names)
            else:
                yield node.module


def within(name, allowed):
    if name.split(".")[0] in sys.stdlib_module_names:
        return True
    return any(name == a or (name.startswith(a + ".") and a != "kernelexp") for a in allowed)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports(part):
    place = PACKAGE / part
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        wrong = [name for name in imports(path) if not within(name, ALLOWED[part])]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def engine_imports(path):
    """The files of the engine that one of them imports, for types alone too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kernelexp.engine"):
            place = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                part, module = place / f"{alias.name}.py", place.with_suffix(".py")
                yield next(f for f in (part, module, place / "__init__.py") if f.is_file())


def test_no_circles_in_the_engine():
    graph = {path: set(engine_imports(path)) for path in (PACKAGE / "engine").rglob("*.py")}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, with the circle


@pytest.mark.parametrize("part", ["norms", "spectrum", "preconditioner", "evaluation", "model"])
def test_k_is_multiplied_by_operators_alone(part):
    found = set(imports(PACKAGE / "engine" / f"{part}.py"))
    assert "kernelexp.engine.operator" in found
    assert "kernelexp.engine.tiles" not in found


def test_an_idea_a_file():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 310, path
