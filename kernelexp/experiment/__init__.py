"""One run, from a Config to a RunResult; knows neither the command line nor the tracking store."""

from kernelexp.experiment.config import Config
from kernelexp.experiment.observer import Observer, RunResult, Setup, Start
from kernelexp.experiment.run import run

__all__ = ["Config", "Observer", "RunResult", "Setup", "Start", "run"]
