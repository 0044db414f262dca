"""The first step of a run: data, kernel, and the solver's set-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernelexp import engine, interrupts
from kernelexp.checkpoint import Checkpoints
from kernelexp.comparisons import COMPARISONS, LEARNING_CURVE, predicted_test_mse
from kernelexp.data import Dataset, Split, load
from kernelexp.engine import AnyTraining, Plan, Problem, SolverOption, memory
from kernelexp.engine.evaluation import Evaluation
from kernelexp.engine.plan import memory_limit
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.experiment.block_size import block_size, described
from kernelexp.experiment.config import Config
from kernelexp.experiment.early_stopping import EarlyStopping
from kernelexp.experiment.observer import Setup, Start
from kernelexp.experiment.scores import scores
from kernelexp.metrics import RUN

# Of the free device memory, for training inputs; else they stay on the host.
_DATA_SHARE = 0.5


@dataclass(frozen=True)
class Prepared:
    """A run before its first epoch.

    Attributes:
        config: of the run.
        setup: what is told of it.
        training: at its beginning, or where it goes on.
        evaluation: on the validation points, if there are any, and then the test points.
        stopping: where the validation points may end training.
        compared: outputs of others on the test points, (m, c) each, by name.
        scores: theirs.
    """

    config: Config
    setup: Setup
    training: AnyTraining
    evaluation: Evaluation
    stopping: EarlyStopping
    compared: dict[str, Tensor]
    scores: dict[str, float]


def prepare(
    config: Config,
    checkpoints: Checkpoints | None,
    loaded: Callable[[], None],
    ranks: Ranks = ALONE,
) -> Prepared:
    """Load, compare, set up; errors as ``run``. ``loaded``: called between the first two."""
    memory.reset_peak(config.device)
    dataset = load_data(config, ranks)
    interrupts.check()
    if checkpoints is not None:
        checkpoints.begin(dataset.digest)
    loaded()
    plan = _pinned(checkpoints)
    ranks.agreed((config, plan))  # others load now what is there
    problem = make_problem(config, dataset.train, plan, ranks)
    compared = compare(config, problem, dataset)
    there: dict[str, float] = {}
    for name, outputs in compared.items():
        there |= scores(f"{name}_test", outputs, dataset.test)
    there |= predict(config, problem, dataset)
    if config.compare:
        memory.reset_peak(config.device)
    interrupts.check()
    solver, stopping = early_stopping(config)
    training = _training(solver, problem, plan, checkpoints, stopping)
    evaluation = Evaluation(training, evaluated(dataset))
    ranks.lead()
    setup = Setup(
        dataset,
        problem.kernel,
        training.plan,
        {
            "solver": training.solver.name,
            "precision": problem.points.arithmetic,
            **training.derived(),
            **({"smaller_plan": True} if training.smaller_plan else {}),
        },
        described(config.device),
        training.solver.max_epochs,
        training.reason,
        _start(checkpoints),
    )
    return Prepared(config, setup, training, evaluation, stopping, compared, there)


def load_data(config: Config, ranks: Ranks) -> Dataset:
    """The data, on the device but for training inputs that would take more than half of what is free there."""

    def moved(split: Split, X: Tensor) -> Split:
        labels = None if split.labels is None else split.labels.to(device)
        return Split(X, split.Y.to(device), labels)

    dataset = load(
        config.dataset,
        config.data_dir,
        seed=config.seed,
        noise=config.noise,
        noise_kind=config.noise_kind,
        validation=config.validation,
        dtype=config.dtype,
    )
    device, train, test = config.device, dataset.train, dataset.test
    held, limit = memory_limit(device, config.resource, ranks.beside)
    fits = train.X.nbytes <= _DATA_SHARE * (limit - held)
    X = train.X.to(device) if fits else train.X
    valid = None if dataset.valid is None else moved(dataset.valid, dataset.valid.X.to(device))
    test = moved(test, test.X.to(device))
    return replace(dataset, train=moved(train, X), test=test, valid=valid)


def make_problem(config: Config, train: Split, plan: Plan | None, ranks: Ranks) -> Problem:
    """What is to be learned, the same on all ranks."""
    config.solver.stop.check(train.labels)  # before anything is compared
    kernel = config.kernel.fitted_to(train.X, torch.Generator().manual_seed(config.seed))
    block = config.resource.block_size or (plan.block_size if plan is not None else 0)
    if not block:
        block = ranks.once(lambda: block_size(kernel, train.X, config.precision, config.device))
    return Problem(
        kernel=kernel,
        X=train.X,
        Y=train.Y,
        labels=train.labels,
        seed=config.seed,
        limits=config.resource,
        block_size=block,
        precision=config.precision,
        ranks=ranks,
    )


def compare(config: Config, problem: Problem, dataset: Dataset) -> dict[str, Tensor]:
    """Outputs of others on the test points, by name."""
    names = [name for name in config.compare if name in COMPARISONS]
    return {name: COMPARISONS[name](problem, dataset.test.X) for name in names}


def predict(config: Config, problem: Problem, dataset: Dataset) -> dict[str, float]:
    """What theory says of the run beforehand, by the name it is recorded under; as ``compare`` on all ranks."""
    if LEARNING_CURVE not in config.compare:
        return {}
    ridge: float = config.solver.ridge  # type: ignore[attr-defined]  # as Config has seen
    test = dataset.test
    return {RUN.predicted_test_mse: predicted_test_mse(problem, ridge, test.X, test.Y)}


def evaluated(dataset: Dataset) -> Tensor:
    """The points that every epoch is evaluated on: those of validation, then those of test."""
    parts = [] if dataset.valid is None else [dataset.valid.X]
    return torch.cat([*parts, dataset.test.X]) if parts else dataset.test.X


def early_stopping(config: Config) -> tuple[SolverOption, EarlyStopping]:
    """The solver, without patience of its own where validation points have it in its place."""
    solver = config.solver
    if config.validation is None or solver.stop.patience is None:
        return solver, EarlyStopping(None)
    return solver.watched(), EarlyStopping(solver.stop.patience)


def _pinned(checkpoints: Checkpoints | None) -> Plan | None:
    """The plan that the run was begun with, where it goes on and had begun to train on all points."""
    if checkpoints is None or checkpoints.start is None or not checkpoints.start.numbers:
        return None
    return Plan.from_dict(checkpoints.start.numbers["plan"])


def _training(
    solver: SolverOption,
    problem: Problem,
    plan: Plan | None,
    checkpoints: Checkpoints | None,
    stopping: EarlyStopping,
) -> AnyTraining:
    """Set up, and where the run goes on as it was."""
    if plan is None or checkpoints is None or checkpoints.start is None:
        return engine.prepare(solver, problem)
    try:
        training = engine.prepare(solver, problem, plan)
    except (ValueError, RuntimeError) as error:
        if not (isinstance(error, ValueError) or memory.is_exhausted(error)):
            raise
        raise checkpoints.cannot_go_on(f"can not be gone on from ({error})") from error
    training.restore(stopping.restore(checkpoints.start.tensors, checkpoints.start.numbers))
    checkpoints.taken_up()
    return training


def _start(checkpoints: Checkpoints | None) -> Start | None:
    if checkpoints is None or checkpoints.start is None:
        return None
    header = checkpoints.start.header
    warm_start = (header.run_id or "not tracked") if checkpoints.longer else None
    folds = len(checkpoints.folds)
    return Start(len(header.epochs), header.seconds, checkpoints.resumed, warm_start, folds)
