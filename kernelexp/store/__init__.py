"""The MLflow store: opening it, handing it what a run leaves, keeping that while it is away."""

from kernelexp.store.config import TrackingConfig
from kernelexp.store.opening import experiment_id, find_store, open_store
from kernelexp.store.reach import StoreAway, check_reachable, without_password

__all__ = [
    "StoreAway",
    "TrackingConfig",
    "check_reachable",
    "experiment_id",
    "find_store",
    "open_store",
    "without_password",
]
