"""How Hydra knows a search: by the name and the settings of its sweeper."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import DictConfig

NAME = "kernelexp_search"
_TARGET = f"hydra_plugins.{NAME}.SearchSweeper"


@dataclass
class SearchSweeperConf:
    """Of ``hydra/sweeper=kernelexp_search``: ``trials`` on the first size; the others as of Hydra's own."""

    _target_: str = _TARGET
    trials: int = 40
    max_batch_size: int | None = None
    params: dict[str, str] = field(default_factory=dict)


def is_search(cfg: DictConfig) -> bool:
    """Whether a composed configuration is that of a search."""
    return bool(cfg.hydra.sweeper._target_ == _TARGET)
