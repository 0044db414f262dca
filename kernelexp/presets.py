"""What a preset needs beyond Hydra: values that depend on another key, chosen in its own file."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from kernelexp.engine.checks import refuse

_NOTHING = object()
# A scale that +debug=fast sets beside sizes of its own, so not to be typed.
_SMALLEST = "debug"


def choose(key: str, options: DictConfig, default: Any = _NOTHING, *, _root_: DictConfig) -> Any:
    """``${choose:KEY,{VALUE: ..., VALUE: ...},DEFAULT}``: the option that the value of KEY names.

    A list becomes the text of a sweep: ``[0,0.1]`` is ``0,0.1``.

    Raises:
        ValueError: where KEY has another value and there is no default.
    """
    value = OmegaConf.select(_root_, key)
    chosen = options.get(value, default) if value is not None else default
    if chosen is _NOTHING:
        allowed = [str(option) for option in options if option != _SMALLEST]
        raise refuse(key, value, "one of " + ", ".join(allowed))
    if OmegaConf.is_list(chosen) or isinstance(chosen, list):
        return ",".join(_text(item) for item in chosen)
    return chosen


def _text(item: Any) -> str:
    return "null" if item is None else str(item).lower() if isinstance(item, bool) else str(item)
