"""The command line: compose, run, say in one line what went wrong."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def job(cfg: DictConfig) -> None:
    """One run with a composed configuration, in this process or in a launcher's worker."""
    from kernelexp import config, errors, interrupts, streams

    # A worker knows none of these; Hydra passes schemas on, resolvers not.
    streams.protect()
    interrupts.install(worker=True)
    config.register()
    warnings.showwarning = _show_warning
    try:
        _run(cfg)
    except interrupts.Interrupted as stop:
        if not interrupts.in_worker():
            raise
        # Raised there, it would make joblib kill the workers beside this one, whatever they write.
        raise errors.JobInterrupted(stop.signal) from None


def _run(cfg: DictConfig) -> None:
    from contextlib import ExitStack
    from functools import partial

    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from kernelexp import checkpoint, config, experiment, interrupts, jobs, sweep
    from kernelexp.console import Terminal, show_skipped, show_waiting, title
    from kernelexp.tracking import Tracker

    checked, tracking = config.build(cfg), config.tracking(cfg)
    values = config.resolved(cfg)
    identity = jobs.identity(values, checked)
    for key in ("rerun", "resume", "dry_run"):  # of the command, not of this run
        del values[key]
    overrides = list(HydraConfig.get().overrides.task)
    name = " ".join(overrides)
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    with ExitStack() as stack:
        interrupts.check()
        run, saves = jobs.checkpointed(checked, identity, tracking), config.checkpoint(cfg)
        if tracking.enabled:
            within = sweep.job(tracking, identity, cfg.rerun, partial(show_waiting, name))
            done = stack.enter_context(within)
            if done is not None:
                show_skipped(name, done)
                with checkpoint.checkpoints(saves, run, resume=False):
                    return  # what a process left that was killed when the run had ended well
        goes_on = cfg.resume and not cfg.rerun
        own = stack.enter_context(checkpoint.checkpoints(saves, run, goes_on))
        tracker = None
        if tracking.enabled:
            run_id = None if own.longer else own.former_run
            tracker = Tracker(tracking, identity, values, text, overrides, run_id)
            own.recorded_in(tracker)
            stack.enter_context(interrupts.on_end(tracker.kill))
            stack.enter_context(tracker)
        terminal = Terminal(tracker, title(overrides))
        stack.enter_context(interrupts.on_end(lambda _: terminal.close()))
        stack.callback(terminal.close)
        observers: list[experiment.Observer] = (
            [terminal] if tracker is None else [terminal, tracker]
        )
        experiment.run(checked, observers, own)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"kernelexp: warning: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of ``python -m kernelexp`` and of the console script.

    The exit code is that of what is recorded: 0 for a run that finished, also where nobody could read
    its table any more.
    """
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
    warnings.showwarning = _show_warning
    # Hydra would print errors over several lines and exit by itself; asked for full errors, it
    # raises them, and they are explained here.
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra

    from kernelexp import arguments, callbacks, config, errors, sweep

    if tracebacks:
        os.environ[callbacks.TRACEBACKS_VARIABLE] = "1"
    config.register()
    ending = threading.Lock()

    def end_sweep(interrupted: bool) -> str | None:
        with ending:  # who comes second waits for the first, and finds no parent to end
            return sweep.end_parent(interrupted)

    code, message = 0, ""
    typed = sys.argv
    with interrupts.on_end(lambda _: end_sweep(True)):
        try:
            sys.argv = [typed[0], *arguments.understood(typed[1:])]
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(job)()
        except (Exception, interrupts.Interrupted) as error:
            # Once it is interrupted, whatever its workers and libraries raise comes of that.
            reason = interrupts.received() or error
            if tracebacks and reason is error:
                sys.excepthook(type(error), error, error.__traceback__)
            code, message = errors.exit_code(reason), errors.explain(reason)
        finally:
            sys.argv = typed
        outcome = end_sweep(interrupted=code > 128)
    for line in filter(None, (message, outcome)):
        print(f"kernelexp: {line}", file=sys.stderr if code else sys.stdout)
    interrupts.ignore_more()
    sys.exit(code)


if __name__ == "__main__":
    main()
