"""The command line: compose, run, say in one line what went wrong."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def job(cfg: DictConfig) -> None:
    """One run with a composed configuration, in this process or in a launcher's worker."""
    from contextlib import ExitStack
    from functools import partial

    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from kernelexp import config, experiment, jobs, sweep
    from kernelexp.console import Terminal, show_skipped, show_waiting
    from kernelexp.tracking import Tracker

    # A worker knows neither; Hydra passes schemas on, resolvers not.
    config.register()
    warnings.showwarning = _show_warning
    checked, tracking = config.build(cfg), config.tracking(cfg)
    values = config.resolved(cfg)
    identity = jobs.identity(values, checked)
    del values["rerun"], values["dry_run"]  # of the sweep, not of this run
    overrides = list(HydraConfig.get().overrides.task)
    name = " ".join(overrides)
    with ExitStack() as stack:
        tracker = None
        if tracking.enabled:
            within = sweep.job(tracking, identity, cfg.rerun, partial(show_waiting, name))
            done = stack.enter_context(within)
            if done is not None:
                show_skipped(name, done)
                return
            text = OmegaConf.to_yaml(OmegaConf.create(values))
            tracker = stack.enter_context(Tracker(tracking, identity, values, text, overrides))
        terminal = Terminal(tracker)
        stack.callback(terminal.close)
        experiment.run(checked, [terminal] if tracker is None else [tracker, terminal])


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"kernelexp: warning: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of ``python -m kernelexp`` and of the console script."""
    from kernelexp import __version__
    from kernelexp.usage import CONF_DIR, usage

    for stream in (sys.stdout, sys.stderr):  # of ASCII in the locale C; MLflow and names are not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage(CONF_DIR))
        return
    if "--version" in sys.argv[1:]:
        print(f"kernelexp {__version__}")
        return
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say Ctrl-C
    # Hydra would print errors over several lines and exit by itself; asked for full errors, it
    # raises them, and they are explained here.
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra

    from kernelexp import arguments, callbacks, config, errors, sweep

    if tracebacks:
        os.environ[callbacks.TRACEBACKS_VARIABLE] = "1"
    config.register()
    code, message = 0, ""
    typed = sys.argv
    try:
        sys.argv = [typed[0], *arguments.understood(typed[1:])]
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(job)()
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:
        if tracebacks:
            sys.excepthook(type(error), error, error.__traceback__)
        code, message = errors.exit_code(error), errors.explain(error)
        if isinstance(error, errors.JobFailed):
            message = ""  # it was named when it failed
    finally:
        sys.argv = typed
    outcome = sweep.end_parent(interrupted=code == 130)
    for line in filter(None, (message, outcome)):
        print(f"kernelexp: {line}", file=sys.stderr if code else sys.stdout)
    sys.exit(code)


if __name__ == "__main__":
    main()
