"""The command line: compose, run, say in one line what went wrong."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kernelexp.search.pruning import Outcome


def job(cfg: DictConfig) -> Outcome | None:
    """One run with a composed configuration, in this process or in a launcher's worker; what a search asks of it."""
    from kernelexp import config, errors, interrupts, streams

    # A worker knows none of these; Hydra passes schemas on, resolvers not.
    streams.protect()
    interrupts.install(worker=True)
    config.register()
    if not isinstance(warnings.showwarning, _ShownOnce):
        warnings.showwarning = _ShownOnce()
    attempt = 0
    try:
        while True:
            outcome, reason = _out_of_memory(cfg, attempt)
            if not reason:
                return outcome
            attempt += 1
            line = f"{reason}; tried again, {attempt} of {cfg.retries}"
            print(f"kernelexp: {line}", file=sys.stderr)
    except interrupts.Interrupted as stop:
        interrupts.requeue(stop)
        if not interrupts.in_worker():
            raise
        # Raised there, it would make joblib kill the workers beside this one, whatever they write.
        raise errors.JobInterrupted(stop.signal) from None


def _out_of_memory(cfg: DictConfig, attempt: int) -> tuple[Outcome | None, str]:
    """Run; with what it said where there was no memory and it is to be tried again."""
    from kernelexp.engine.memory import is_exhausted

    try:
        return _run(cfg, attempt), ""
    except (RuntimeError, MemoryError) as error:
        if attempt >= cfg.retries or not is_exhausted(error):
            raise
        return None, str(error).partition("\n")[0] or type(error).__name__


def _run(cfg: DictConfig, attempt: int) -> Outcome | None:
    import functools
    from contextlib import ExitStack
    from dataclasses import replace

    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from kernelexp import (
        checkpoint,
        config,
        experiment,
        interrupts,
        jobs,
        rank_processes,
        sweep,
    )
    from kernelexp.claims import Claim
    from kernelexp.console import (
        Terminal,
        TrialTerminal,
        show_pruned,
        show_skipped,
        show_waiting,
        title,
    )
    from kernelexp.current_sweep import Sweep
    from kernelexp.gpus import own_gpu
    from kernelexp.resume import Finished
    from kernelexp.search.pruning import Outcome, Pruned, Pruner, Trial, outcome_of
    from kernelexp.store import open_store, without_password
    from kernelexp.tracking import Tracker

    checked, tracking = config.build(cfg), config.tracking(cfg)
    values = config.resolved(cfg)
    identity = jobs.identity(values, checked)
    for key in ("rerun", "retries", "resume", "dry_run", "trial"):  # of the command, not of this
        del values[key]
    # Recorded for all who may read the store.
    values["tracking"]["uri"] = without_password(tracking.uri)
    typed = (o for o in HydraConfig.get().overrides.task if not o.startswith("trial="))
    overrides = [without_password(override) for override in typed]
    name = " ".join(overrides)
    trial = Trial.of(cfg.trial)
    partial = trial is not None and trial.partial
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    with ExitStack() as stack:
        interrupts.check()
        run, saves = jobs.checkpointed(checked, identity, tracking), config.checkpoint(cfg)
        observers: list[experiment.Observer] = []
        if tracking.enabled:
            waiting = functools.partial(show_waiting, name)
            within = sweep.job(tracking, identity, cfg.rerun, partial, waiting)
            turn = stack.enter_context(within)
            if isinstance(turn, Finished):
                show_skipped(name, turn)
                with checkpoint.checkpoints(saves, run, resume=False):
                    # What a process left that was killed when the run had ended well.
                    return None if trial is None else outcome_of(open_store(tracking), turn.run)
            if isinstance(turn, Claim):
                observers.append(turn)  # the first: what it ends is not recorded further
        device = stack.enter_context(own_gpu(checked.device))
        together = rank_processes.together(checked.resource.ranks, device)
        ranks, device = stack.enter_context(together)
        checked, run = (
            replace(checked, device=device),
            replace(run, device=device, ranks=ranks.size),
        )
        under_way = Sweep.current()
        attempt += under_way.attempt if under_way is not None else 0
        goes_on = cfg.resume and (attempt > 0 or not cfg.rerun)
        own = stack.enter_context(checkpoint.checkpoints(saves, run, goes_on))
        tracker = None
        if tracking.enabled:
            run_id = None if own.longer else own.former_run
            tracker = Tracker(tracking, identity, values, text, overrides, run_id, attempt, partial)
            own.recorded_in(tracker)
            stack.enter_context(interrupts.on_end(tracker.kill))
            stack.enter_context(tracker)
        shown = title(overrides)
        terminal = Terminal(tracker, shown) if trial is None else TrialTerminal(shown)
        stack.enter_context(interrupts.on_end(lambda _: terminal.close()))
        stack.callback(terminal.close)
        observers += [terminal] if tracker is None else [terminal, tracker]
        pruner = Pruner([] if trial is None else trial.bounds)
        try:
            made = experiment.run(checked, [*observers, pruner], own, ranks)
        except Pruned as why:
            ranks.end_following()
            show_pruned(shown or name, why)
            if tracker is not None:
                tracker.pruned(why)
            return Outcome({}, pruner.curve, str(why))
        return Outcome(made.metrics, pruner.curve)


def _launched(tracebacks: bool) -> BaseException | None:
    """Let Hydra run what was typed: what went wrong, the signal first."""
    import hydra

    from kernelexp import arguments, interrupts
    from kernelexp.usage import CONF_DIR

    typed = sys.argv
    try:
        sys.argv = [typed[0], *arguments.understood(typed[1:])]
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(job)()
    except (Exception, interrupts.Interrupted) as error:
        # Once it is interrupted, whatever its workers and libraries raise comes of that.
        reason = interrupts.received() or error
        if tracebacks and reason is error:
            sys.excepthook(type(error), error, error.__traceback__)
        return reason
    finally:
        sys.argv = typed
    return None


class _ShownOnce:
    """Shows a warning in one line, each text once: folds and jobs, which read their data anew, would repeat it."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in self.said:
            self.said.add(str(message))
            print(f"kernelexp: warning: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of ``python -m kernelexp`` and of the console script.

    The exit code is that of what is recorded: 0 for a run that finished, also where nobody could read
    its table any more. Of several ranks that a launcher starts the first does what is typed.
    """
    from kernelexp.rank_place import Place

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what ranks lose is said in one line
    try:
        place = Place.found()
    except (ValueError, KeyError) as error:
        print(f"kernelexp: {error}, as torchrun and srun do", file=sys.stderr)
        sys.exit(2)
    if place is None:
        _typed()
        return
    from kernelexp import rank_processes

    if place.rank:
        rank_processes.follow(place)
        return
    try:
        _typed()
    finally:
        rank_processes.end_launched(place)


def _typed() -> None:
    """Do what was typed."""
    from kernelexp import __version__, interrupts, streams
    from kernelexp.usage import CONF_DIR, usage

    streams.protect()
    interrupts.install()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage(CONF_DIR))
        return
    if "--version" in sys.argv[1:]:
        print(f"kernelexp {__version__}")
        return
    warnings.showwarning = _ShownOnce()
    # Hydra would print errors over several lines and exit by itself; asked for full errors, it
    # raises them, and they are explained here.
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        from kernelexp import callbacks, config, errors, sweep
    except ImportError as error:  # of a part, which is anybody's file
        if tracebacks:
            raise
        print(f"kernelexp: {error}; HYDRA_FULL_ERROR=1 shows where", file=sys.stderr)
        sys.exit(2)
    if tracebacks:
        os.environ[callbacks.TRACEBACKS_VARIABLE] = "1"
    config.register()
    ending = threading.Lock()

    def end_sweep(interrupted: bool) -> str | None:
        with ending:  # who comes second waits for the first, and finds no parent to end
            return sweep.end_parent(interrupted)

    with interrupts.on_end(lambda _: end_sweep(True)):
        reason = _launched(tracebacks)
        while reason is not None and errors.is_killed_worker(reason) and (n := sweep.again()):
            print(f"kernelexp: {errors.explain(reason)}; try number {n + 1}", file=sys.stderr)
            reason = _launched(tracebacks)
        code = 0 if reason is None else errors.exit_code(reason)
        message = "" if reason is None else errors.explain(reason)
        outcome = end_sweep(interrupted=code > 128)
    for line in filter(None, (message, outcome)):
        print(f"kernelexp: {line}", file=sys.stderr if code else sys.stdout)
    interrupts.ignore_more()
    sys.exit(code)


if __name__ == "__main__":
    main()
