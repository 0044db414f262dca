"""A store with a few runs of every preset, as the presets record them; numbers follow simple laws."""

import base64
import hashlib
import itertools
import math

from mlflow.entities import Metric, Param, RunTag

DEVICE = "x86_64 CPU, 2 threads"
BANDWIDTHS = {"laplacian": 10.0, "gaussian": 5.0}


def sweep(client, experiment, jobs, artifacts=None):
    """A parent and its jobs, each a dictionary of ``record``'s arguments; the parent's id."""
    found = client.get_experiment_by_name(experiment)
    if found:
        number = found.experiment_id
    else:
        place = artifacts and (artifacts / experiment).as_uri()
        number = client.create_experiment(experiment, place)
    parent = client.create_run(number, tags={"sweep.jobs": str(len(jobs))}).info.run_id
    for job in jobs:
        record(client, number, parent, **job)
    client.set_terminated(parent)
    return parent


def record(
    client, number, parent, *, params, metrics, history=None, stopped_by="epochs", status="FINISHED",
    warning=None, mistakes=None, features=None,
):  # fmt: skip
    """One run; ``history`` has the values of each epoch, ``warning`` why its system is not solved, ``mistakes``, ``features``: files."""
    defaults = {
        "kernel.name": "laplacian", "dataset.name": "fmnist", "dataset.n_train": 500,
        "solver.name": "eigenpro2", "solver.q": None, "solver.batch_size": None,
        "solver.epochs": 10, "solver.stop.train_error": None, "solver.stop.train_mse": None,
        "noise": 0.0, "label_noise.name": "uniform", "seed": 0, "dtype": "float32",
        "scale": "small", "data_dir": "data", "tracking.experiment": number,
    }  # fmt: skip
    params = {**defaults, **params}
    params.setdefault("kernel.bandwidth", BANDWIDTHS.get(params["kernel.name"]))
    config = {k: v for k, v in params.items() if not k.startswith("tracking.")}
    digest = hashlib.sha256(repr(sorted(config.items())).encode()).hexdigest()
    derived = {
        "derived.n_train": params["dataset.n_train"], "derived.n_features": 784,
        "derived.bandwidth": params["kernel.bandwidth"], "derived.device_name": DEVICE,
    }  # fmt: skip
    params = {**params, **derived, **params.pop("derived", {})}
    metrics = {"setup_seconds": 0.5, "train_seconds": 2.0, **metrics}
    points = [Metric(name, value, 0, 0) for name, value in metrics.items()]
    for name, values in (history or {}).items():
        points += [Metric(name, value, 0, epoch) for epoch, value in enumerate(values, 1)]
    run = client.create_run(number, tags={"mlflow.parentRunId": parent}).info.run_id
    client.log_batch(
        run,
        metrics=points,
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag("stopped_by", stopped_by), RunTag("git.commit", "5e6fc4caf9d0"),
              RunTag("git.dirty", "false"), RunTag("config.digest", digest)],
    )  # fmt: skip
    if warning:
        client.set_tag(run, "solver.warning", warning)
    if mistakes:
        client.log_dict(run, mistakes, "test_mistakes.json")
    if features:
        client.log_dict(run, features, "features.json")
    client.set_terminated(run, status)
    return run


def foreign(client, experiment):
    """Runs of other programs beside ours: numbers that are none, names of ours, half finished."""
    number = client.get_experiment_by_name(experiment).experiment_id
    odd = {
        "test_accuracy": math.nan,
        "rkhs_norm": math.inf,
        "run": 1.0,
        "kernel": 2.0,
        "settings": 3.0,
    }
    words = {"noise": "lots", "seed": "abc", "solver.stop.train_error": "never", "dataset.n_train": "all",
             "epochs": "ten", "run": "mine", "kernel.bandwidth": "wide", "scale": "none"}  # fmt: skip
    for metrics, params, status in [(odd, words, "FINISHED"), ({}, {}, "FINISHED"), ({}, {}, "FINISHED"),
                                    ({}, {}, "FAILED"), ({}, {}, "RUNNING")]:  # fmt: skip
        run = client.create_run(number).info.run_id
        client.log_batch(
            run,
            metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
            params=[Param(name, value) for name, value in params.items()],
        )
        client.set_terminated(run, status)


def kernels():
    accuracy = {"laplacian": 0.85, "gaussian": 0.82, "relu_ntk": 0.86}
    for (kernel, best), (dataset, less) in itertools.product(
        accuracy.items(), {"fmnist": 0, "cifar10": 0.4}.items()
    ):
        yield {
            "params": {"kernel.name": kernel, "dataset.name": dataset, "dataset.n_train": 5000},
            "metrics": {"m_star": 3 + best, "test_accuracy": best - less, "train_mse": 1e-4 / best, "epochs": 10,
                        "train_seconds": 90 if kernel == "gaussian" else 12},
        }  # fmt: skip


def centers():
    for solver, p in itertools.product(
        ["eigenpro3", "eigenpro4", "falkon", "exact"], [100, 400, 1600]
    ):
        power = {"eigenpro3": 1.2, "eigenpro4": 0.5, "falkon": 1.8, "exact": 2}[solver]
        yield {
            "params": {"solver.name": solver, "solver.n_centers": p, "dataset.n_train": 5000},
            "metrics": {"n_centers": p, "test_accuracy": 0.9 - 1 / math.sqrt(p),
                        "setup_seconds": 0.0, "train_seconds": 0.01 * (p / 100) ** power},
        }  # fmt: skip


def batch_size():
    """Steps are exactly 300 (1 + (m* - 1) / m), m* = 4 and 50."""
    for (q, star), m in itertools.product([(0, 4.0), (None, 50.0)], [1, 4, 16, 64, 256]):
        steps = 300 * (1 + (star - 1) / m)
        epochs = steps / math.ceil(500 / m)
        rate = math.log(100) / epochs  # 0.1 -> 0.001 in that many
        losses = [0.1 * math.exp(-rate * e) for e in range(1, math.ceil(epochs) + 2)]
        yield {
            "params": {"solver.q": q, "solver.batch_size": m, "solver.stop.train_mse": 1e-3},
            "metrics": {"batch_size": m, "q": 0 if q == 0 else 80, "m_star": 4.0,
                        "m_star_adapted": star, "epochs": len(losses)},
            # A store takes 1,000 metrics at a time; the last epochs are those that matter.
            "history": {"epoch_train_mse": losses[:400], "epoch_seconds": [0.5] * len(losses[:400])},
            "stopped_by": "train_mse",
        }  # fmt: skip


def interpolation():
    for kernel, seed in itertools.product(["laplacian", "gaussian"], [0, 1]):
        pace = {"laplacian": 0.6, "gaussian": 0.15}[kernel] + 0.05 * seed
        errors = [math.exp(-pace * e) for e in range(1, 21)]
        yield {
            "params": {"kernel.name": kernel, "seed": seed, "dtype": "float64"},
            "metrics": {"exact_test_accuracy": 0.86, "test_accuracy": 0.859},
            "history": {"epoch_prediction_error": errors,
                        "epoch_test_accuracy": [0.86 - 0.1 * e for e in errors]},
        }  # fmt: skip


def norm(n, noise, solver, kernel="gaussian", dataset="mnist", seed=0):
    """||f|| = n^(1/2 + noise) (0.6, and a third more interpolated, and a little by seed)."""
    size = (0.6 if solver == "eigenpro2" else 0.8) * n ** (0.5 + noise) * (1 + 0.02 * seed)
    return {
        "params": {"kernel.name": kernel, "dataset.name": dataset, "dataset.n_train": n, "seed": seed,
                   "noise": noise, "solver.name": solver,
                   "solver.stop.train_error": 0.0 if solver == "eigenpro2" else None},
        "metrics": {"rkhs_norm": size, "rkhs_norm_error": 1e-5, "test_accuracy": 0.9},
        "stopped_by": "train_error" if solver == "eigenpro2" else "tolerance",
    }  # fmt: skip


STOPS = ["eigenpro2", "exact"]


def rkhs_norm():
    return itertools.starmap(norm, itertools.product([500, 1000, 2000], [0.0, 0.1], STOPS, ["gaussian"],
                                                     ["mnist"], [0, 1]))  # fmt: skip


def rkhs_norm_synthetic():
    for dataset, n, noise, solver in itertools.product(
        ["synthetic1", "synthetic2"], [500, 1000], [0.0, 0.1], STOPS
    ):
        yield norm(n, noise, solver, dataset=dataset)


def rkhs_norm_kernels():
    for kernel, n, noise, solver in itertools.product(
        ["laplacian", "cauchy"], [500, 1000], [0.0, 0.1], STOPS
    ):
        yield norm(n, noise, solver, kernel, "cifar10")


def label_noise():
    for noise, kernel, solver in itertools.product(
        [0.0, 0.5, 1.0], ["laplacian", "gaussian"], STOPS
    ):
        job = norm(1000, noise, solver, kernel)
        clean = (0.05 + 0.3 * noise) if noise < 1 else 0.9
        accuracy = {
            "test_accuracy": 1 - clean,
            "nearest_neighbour_test_accuracy": 0.9 - 0.8 * noise,
        }
        yield {**job, "metrics": {**job["metrics"], **accuracy}}


def random_labels():
    for kernel, noise in itertools.product(["laplacian", "gaussian"], [0.0, 1.0]):
        epochs = {
            ("laplacian", 0): 3,
            ("laplacian", 1): 5,
            ("gaussian", 0): 12,
            ("gaussian", 1): 300,
        }
        never = kernel == "gaussian" and noise == 1
        yield {
            "params": {"kernel.name": kernel, "dataset.name": "mnist", "noise": noise,
                       "solver.stop.train_error": 0.0},
            "metrics": {"epochs": epochs[kernel, noise]},
            "stopped_by": "epochs" if never else "train_error",
        }  # fmt: skip


def convergence():
    for kernel, solver in itertools.product(
        ["laplacian", "gaussian"], ["eigenpro2", "sgd", "exact"]
    ):
        pace = {"eigenpro2": 1.0, "sgd": 0.15, "exact": 50}[solver]
        accuracies = [
            0.95 - 0.1 * math.exp(-pace * e) for e in range(1, 2 if solver == "exact" else 11)
        ]
        yield {
            "params": {"kernel.name": kernel, "solver.name": solver, "dataset.name": "mnist"},
            "metrics": {"test_accuracy": accuracies[-1]},
            "history": {"epoch_test_accuracy": accuracies},
        }


def solvers():
    for place, solver in enumerate(["eigenpro2", "sgd", "exact", "eigenpro4", "falkon"]):
        epochs = 1 if solver == "exact" else 6
        yield {
            "params": {"solver.name": solver},
            "metrics": {"setup_seconds": 0.3 + 0.2 * place, "test_accuracy": 0.85,
                        **({"n_centers": 100} if solver in ("eigenpro4", "falkon") else {})},
            "history": {"epoch_test_accuracy": [0.85 - 0.2 / (place + e) for e in range(1, epochs + 1)],
                        "epoch_seconds": [0.1 * (place + 1)] * epochs},
        }  # fmt: skip


def bandwidth():
    for kernel, s in itertools.product(["laplacian", "gaussian"], [1.0, 4.0, 16.0]):
        sharp = 0.2 if kernel == "gaussian" else 0.05
        yield {
            "params": {"kernel.name": kernel, "kernel.bandwidth": s},
            "metrics": {
                "test_accuracy": 0.85 - sharp * abs(math.log(s / 4)) / 2,
                "rkhs_norm": 20 * s,
            },
        }


def ridge_path():
    grid = [10.0**-i for i in range(8)]
    for kernel, noise in (("laplacian", 0.02), ("gaussian", 0.03)):
        yield {
            "params": {"kernel.name": kernel, "solver.name": "ridge_path"},
            "metrics": {"ridge": 1e-3, "loo_mse": 0.05, "test_accuracy": 0.8, "rkhs_norm": 20},
            "history": {
                "path_ridge": grid,
                "path_loo_mse": [0.05 + abs(math.log10(r / 1e-3)) * noise for r in grid],
                "path_train_mse": [0.05 * r**0.5 for r in grid],
                "path_rkhs_norm": [r**-0.4 for r in grid],
                "path_effective_dimension": [500 / (1 + 1e3 * r) for r in grid],
            },
        }


def preconditioners():
    names = ["none", "eigenpro", "nystrom", "rpcholesky"]
    for place, (kernel, ridge, name) in enumerate(
        itertools.product(["laplacian", "gaussian"], [0.0, 1e-6], names)
    ):
        yield {
            "params": {"kernel.name": kernel, "solver.name": "cg", "solver.ridge": ridge,
                       "solver.preconditioner": name},
            "metrics": {"epochs": 200 if name == "none" else 20 + place, "relative_residual": 9e-7},
        }  # fmt: skip


def tables():
    for dataset, measure in (("iris", "accuracy"), ("diabetes", "r2")):
        for kernel, seed in itertools.product(["laplacian", "gaussian"], range(2)):
            scores = {"": 0.8, "svm_": 0.7, "boosting_": 0.75, "nearest_neighbour_": 0.6}
            yield {
                "params": {"kernel.name": kernel, "dataset.name": dataset, "seed": seed},
                "metrics": {
                    f"{peer}test_{measure}": score + 0.01 * seed for peer, score in scores.items()
                },
            }


def krr_testbed():
    """Errors of 10% plus 10% / 2^epoch, of a solver that takes a second and one that takes four an epoch."""
    for (dataset, measure), solver in itertools.product(
        (("fmnist", "accuracy"), ("friedman1", "r2")), ["eigenpro2", "askotch", "exact"]
    ):
        pace = {"eigenpro2": 1.0, "askotch": 4.0, "exact": 20.0}[solver]
        errors = [0.1] if solver == "exact" else [0.1 + 0.1 / 2**e for e in range(1, 9)]
        residual = {} if solver == "eigenpro2" else {"relative_residual": 1e-6}
        yield {
            "params": {"solver.name": solver, "solver.ridge": 1e-5, "dataset.name": dataset},
            "metrics": {f"test_{measure}": 1 - errors[-1], **residual},
            "history": {
                f"epoch_test_{measure}": [1 - error for error in errors],
                "epoch_seconds": [pace] * len(errors),
            },
        }


def confusion():
    """Of 30 points of class a 3 are taken for b, of 10 of b 1 for c; c is right."""
    image = base64.b64encode(bytes(range(6))).decode()
    counts = [[0, 0, 27], [0, 1, 3], [1, 1, 9], [1, 2, 1], [2, 2, 5]]
    pairs = [
        {"true": i, "predicted": j, "count": n, "images": [image] * min(n, 2)}
        for i, j, n in counts
        if i != j
    ]
    yield {
        "params": {},
        "metrics": {"test_accuracy": 41 / 45},
        "mistakes": {"classes": ["a", "b", "c"], "counts": counts, "pairs": pairs, "shape": [2, 3]},
    }


def confused_pairs():
    yield from confusion()


def residuals():
    targets = [[float(i)] for i in range(20)]
    outputs = [[i + (-1) ** i / 2] for i in range(20)]
    for valid in (0.5, 0.9):
        yield {
            "params": {"noise": valid},
            "metrics": {"test_r2": 0.9, "valid_r2": valid},
            "mistakes": {"targets": targets, "outputs": outputs if valid == 0.9 else targets},
        }


def search():
    for n, bandwidths in ((500, [1, 3, 9, 27]), (1500, [9])):
        for bandwidth in bandwidths:
            score = 0.9 - abs(math.log(bandwidth / 9)) / 10 + n / 1e5
            yield {
                "params": {
                    "kernel.bandwidth": bandwidth,
                    "dataset.n_train": n,
                    "kernel.name": "gaussian",
                },
                "metrics": {"valid_accuracy": score, "test_accuracy": score},
            }


def rfm_low_rank():
    for n, diagonal in itertools.product([1000, 4000], [False, True]):
        yield {
            "params": {
                "solver.name": "rfm",
                "solver.diagonal": diagonal,
                "dataset.n_train": n,
                "dataset.name": "low_rank",
            },
            "metrics": {"test_mse": 0.01 / n, "test_r2": 0.9},
            "history": {"epoch_test_mse": [0.01 * 0.5**e for e in range(6)]},
        }


def features():
    M = [0.1, 1.0, 0.2, 0.0, 0.5, 0.3]
    yield {
        "params": {"solver.name": "rfm", "solver.agop_power": 1.0},
        "metrics": {"test_accuracy": 0.9},
        "features": {
            "names": None,
            "shape": [2, 3],
            "diagonal": M,
            "eigenvalues": [1.5, 0.2],
            "eigenvectors": [M, M[::-1]],
        },
    }


def grokking():
    """Upper right block of M: 0.5 on its diagonal, so circulant; its rounds rise from 0 to 1."""
    M = [[float(i == j) + 0.5 * (abs(i - j) == 3) for j in range(6)] for i in range(6)]
    for seed in (0, 1):
        yield {
            "params": {"solver.name": "rfm", "solver.agop_power": 1.0, "seed": seed},
            "metrics": {"train_accuracy": 1.0, "test_accuracy": 1.0},
            "history": {
                "epoch_train_accuracy": [1.0] * 4,
                "epoch_test_accuracy": [0.0, 0.02 + 0.02 * seed, 0.5, 1.0],
            },
            "features": {
                "names": None,
                "shape": None,
                "diagonal": [1.0] * 6,
                "eigenvalues": [1.5],
                "eigenvectors": [[0.5] * 6],
                "matrix": M,
            },
        }


def subspace():
    for n, rounds in itertools.product([500, 1000, 2000], [1, 4]):
        yield {
            "params": {"solver.name": "rfm", "dataset.n_train": n, "dataset.name": "multi_index"},
            "metrics": {"epochs": rounds, "test_mse": 0.5 / rounds, "subspace_error": 100 / n},
        }


def overfitting():
    """The test error of interpolation grows with n as the Gaussian's power says; that of a ridge falls."""
    power = {"laplacian": -0.2, "gaussian": 0.5}
    for n, noise, kernel, ridge in itertools.product([50, 200], [0.0, 1.0], power, [0.0, 1e-3]):
        error = (1 + noise) * n ** (-0.3 if ridge else power[kernel])
        yield {
            "params": {
                "kernel.name": kernel,
                "solver.name": "exact",
                "solver.ridge": ridge,
                "noise": noise,
                "dataset.n_train": n,
            },
            "metrics": {"test_mse": error},
        }


def nystrom_preconditioner():
    """Epochs fall as 1 + q / s."""
    for q, s in itertools.product([20, 80], [100, 200, 500]):
        rate = math.log(100) / (10 * (1 + q / s))
        yield {
            "params": {"solver.q": q, "solver.subsample_size": s, "solver.stop.train_mse": 1e-3},
            "metrics": {"q": q, "m_star_adapted": 100 + s},
            "history": {"epoch_train_mse": [0.1 * math.exp(-rate * e) for e in range(1, 30)]},
            "stopped_by": "train_mse",
        }


def learning_curves():
    """The prediction is 10% too high."""
    for n, kernel, ridge in itertools.product([50, 200, 800], ["laplacian", "gaussian"], [0, 1e-3]):
        error = (1 + ridge) * n**-0.3
        yield {
            "params": {"kernel.name": kernel, "solver.ridge": ridge, "dataset.n_train": n},
            "metrics": {"test_mse": error, "predicted_test_mse": 1.1 * error},
        }


PRESETS = [learning_curves, overfitting, nystrom_preconditioner, subspace, grokking, rfm_low_rank, features, confusion, confused_pairs, residuals, search, kernels, centers, batch_size, interpolation, rkhs_norm, rkhs_norm_synthetic,
           rkhs_norm_kernels, label_noise, random_labels, convergence, solvers, bandwidth, ridge_path, tables,
           krr_testbed, preconditioners]  # fmt: skip


def fill(client, artifacts=None):
    """Every preset; the parents' ids by experiment."""
    return {
        preset.__name__: sweep(client, preset.__name__, list(preset()), artifacts)
        for preset in PRESETS
    }
