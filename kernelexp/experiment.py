"""One run, from a Config to a RunResult; knows neither the command line nor the tracking store."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from kernelexp.comparisons import COMPARISONS, prediction_error
from kernelexp.data import Dataset, DatasetSource, Split, load
from kernelexp.data.cache import cache_dir
from kernelexp.engine import (
    EpochRecord,
    Kernel,
    KernelModel,
    Plan,
    Problem,
    ResourceLimits,
    RKHSNorm,
    SolverOption,
    measure_block_size,
    memory,
    prepare,
)
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.model import predicted_labels
from kernelexp.engine.plan import memory_limit
from kernelexp.engine.points import check_precision
from kernelexp.engine.singular import SingularMatrixWarning

_DRIFT_POINTS = 1000
# Of the free device memory, for training inputs; else they stay on the host.
_DATA_SHARE = 0.5


@dataclass(frozen=True)
class Config:
    """One run, checked."""

    dataset: DatasetSource
    kernel: Kernel
    solver: SolverOption
    resource: ResourceLimits = field(default_factory=ResourceLimits)
    noise: float = 0.0
    noise_kind: str = "uniform"
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    precision: str = "auto"
    data_dir: Path = field(default_factory=cache_dir)
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        number("noise", self.noise, 0, 1)
        if self.seed >= 2**63:
            raise refuse("seed", self.seed, "a whole number from 0 to 2^63 - 1")
        number("seed", self.seed, 0, whole=True)
        check_precision(self.precision, self.dtype, self.device)
        for name in self.compare:
            one_of("compare", name, COMPARISONS)


@dataclass(frozen=True)
class Setup:
    """What is known before the first epoch.

    Attributes:
        dataset: what is trained on.
        kernel: with a bandwidth left to the data put in.
        plan: what the run will hold in memory.
        derived: what the solver chose or measured.
        device_name: of the device.
        max_epochs: the most epochs there will be.
        reason: why this solver, where it was picked.
    """

    dataset: Dataset
    kernel: Kernel
    plan: Plan
    derived: dict[str, Any]
    device_name: str
    max_epochs: int
    reason: str | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        setup: what was known before the first epoch.
        metrics: ``train_accuracy``, ``rkhs_norm`` and so on, by the names they are recorded under.
        norm: RKHS norm, also of each output, and how it was got.
        stopped_by: ``epochs`` or the stop rule that ended the run.
        model: the kernel machine.
        warning: one sentence where targets could not be met or the system is not solved; else None.
    """

    setup: Setup
    metrics: dict[str, float]
    norm: RKHSNorm
    stopped_by: str
    model: KernelModel
    warning: str | None = None


class Observer(Protocol):
    """Somebody who is told how a run goes: the terminal, the tracking store."""

    def prepared(self, setup: Setup) -> None:
        """Before the first epoch."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """After each epoch."""

    def finished(self, result: RunResult) -> None:
        """At the end."""


def run(config: Config, observers: Sequence[Observer] = ()) -> RunResult:
    """Load, train, evaluate.

    Raises:
        ValueError: for data or sizes that cannot work.
        FileNotFoundError: for data that are not there.
        DivergenceError: where training grows instead of shrinking.
    """
    memory.reset_peak(config.device)
    dataset = _to_device(
        load(
            config.dataset,
            config.data_dir,
            seed=config.seed,
            noise=config.noise,
            noise_kind=config.noise_kind,
            dtype=config.dtype,
        ),
        config,
    )
    train = dataset.train
    if train.labels is None and config.solver.stop.train_error is not None:
        raise refuse(
            "solver.stop.train_error",
            config.solver.stop.train_error,
            "null for regression, which has no wrong labels; solver.stop.train_mse stops there",
        )
    kernel = config.kernel.fitted_to(train.X, torch.Generator().manual_seed(config.seed))
    problem = Problem(
        kernel=kernel,
        X=train.X,
        Y=train.Y,
        labels=train.labels,
        seed=config.seed,
        limits=config.resource,
        block_size=config.resource.block_size or _block_size(kernel, train.X, config),
        precision=config.precision,
    )
    compared = {name: COMPARISONS[name](problem, dataset.test.X) for name in config.compare}
    scores_compared: dict[str, float] = {}
    for name, there in compared.items():
        scores_compared.update(_scores(f"{name}_test", there, dataset.test))
    if compared:
        memory.reset_peak(config.device)
    training = prepare(config.solver, problem)
    evaluation = Evaluation(training, dataset.test.X)
    setup = Setup(
        dataset,
        kernel,
        training.plan,
        {
            "solver": training.solver.name,
            "precision": problem.points.arithmetic,
            **training.derived(),
            **({"smaller_plan": True} if training.smaller_plan else {}),
        },
        _device_name(config),
        training.solver.max_epochs,
        training.reason,
    )
    for observer in observers:
        observer.prepared(setup)
    test, seconds = {}, 0.0
    record: EpochRecord | None = None
    with warnings.catch_warnings():
        # The result says what a system left undone, and so do its observers.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        for record in training.run():
            seconds += record.seconds
            outputs = evaluation.outputs()
            test = _scores("test", outputs, dataset.test)
            score = "test_accuracy" if "test_accuracy" in test else "test_r2"
            metrics = {
                "epoch_train_mse": record.train_mse,
                f"epoch_{score}": test[score],
                "epoch_seconds": record.seconds,
                "epoch_rkhs_norm": record.rkhs_norm,
            }
            if "exact" in compared:
                metrics["epoch_prediction_error"] = prediction_error(outputs, compared["exact"])
            for observer in observers:
                observer.epoch(record.epoch, metrics)
    assert record is not None
    assert training.stopped_by is not None
    norm, outputs = training.rkhs_norm(), training.training_outputs()
    recorded = ("m_star", "m_star_adapted", "batch_size", "q", "top_eigenvalue", "n_centers")
    metrics = {
        **{name: float(setup.derived[name]) for name in recorded if name in setup.derived},
        "setup_seconds": training.setup_seconds,
        "train_seconds": seconds,
        "epochs": float(record.epoch),
        **_scores("train", outputs, train),
        **test,
        **scores_compared,
        "rkhs_norm": norm.value,
        "rkhs_norm_error": norm.relative_error,
        **training.residuals(),
        "prediction_drift": _drift(training.model(), train.X, outputs),
        "peak_memory_gb": memory.peak_bytes(config.device) / 1e9,
    }
    result = RunResult(
        setup, metrics, norm, training.stopped_by, training.model(), training.warning
    )
    for observer in observers:
        observer.finished(result)
    return result


def _to_device(dataset: Dataset, config: Config) -> Dataset:
    """On the device, but for training inputs that would take more than half of what is free there."""

    def moved(split: Split, X: Tensor) -> Split:
        labels = None if split.labels is None else split.labels.to(device)
        return Split(X, split.Y.to(device), labels)

    device, train, test = config.device, dataset.train, dataset.test
    held, limit = memory_limit(device, config.resource)
    fits = train.X.nbytes <= _DATA_SHARE * (limit - held)
    X = train.X.to(device) if fits else train.X
    return replace(dataset, train=moved(train, X), test=moved(test, test.X.to(device)))


def _scores(part: str, outputs: Tensor, split: Split) -> dict[str, float]:
    """Accuracy, or R2 = 1 - sum |y - f|^2 / sum |y - mean y|^2 for regression, and the MSE.

    Of targets that are all the same R2 is 1 where f is exact, else 0, as in scikit-learn.
    """
    mse = (outputs - split.Y).square_().mean().item()
    if split.labels is not None:
        right = predicted_labels(outputs) == split.labels
        return {f"{part}_accuracy": right.double().mean().item(), f"{part}_mse": mse}
    spread = (split.Y - split.Y.mean(0)).square_().mean().item()
    r2 = 1 - mse / spread if spread else float(mse == 0)
    return {f"{part}_r2": r2, f"{part}_mse": mse}


def _drift(model: KernelModel, X: Tensor, predictions: Tensor) -> float:
    """Root mean square of f(X) as carried along minus f(X) from the weights, on the first points.

    Rounding alone; where it is not small against the root of train_mse, use dtype=float64.
    """
    some = slice(0, _DRIFT_POINTS)
    return (model.predict(X[some]) - predictions[some]).square_().mean().sqrt_().item()


def _device_name(config: Config) -> str:
    if config.device.type == "cuda":
        return torch.cuda.get_device_name(config.device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def _block_size(kernel: Kernel, X: Tensor, config: Config) -> int:
    """``measure_block_size``, once on a machine: a second run then gives the same digits.

    Kept in the cache folder; delete ``block_sizes.json`` there to measure again.
    """
    device = config.device.type if config.device.type == "cpu" else _device_name(config)
    threads, precision, (n, d) = torch.get_num_threads(), config.precision, X.shape
    key = f"{device}, {threads} threads, {X.dtype}, {precision}, {kernel.name}, {n=}, {d=}"
    path = cache_dir() / "block_sizes.json"
    try:
        known: dict[str, int] = json.loads(path.read_text())
        return known[key]
    except (OSError, ValueError, KeyError):
        measured = measure_block_size(kernel, X, precision, config.device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, key: measured}, indent=1))
    except (OSError, ValueError):
        pass  # a cache that cannot be written costs a measurement, nothing else
    return measured
