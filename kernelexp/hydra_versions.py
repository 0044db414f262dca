"""What Hydra 1.3 and 1.4 want said differently; 1.4 still takes the old words, with warnings."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import OmegaConf

_NEWER = not hydra.__version__.startswith("1.3.")

register_resolver: Any = OmegaConf.register_resolver if _NEWER else OmegaConf.register_new_resolver

# Of ``hydra.main``. From 1.4 on a configuration may name only objects that the program allows.
MAIN_SETTINGS: dict[str, Any] = (
    {"execution_whitelist": ["kernelexp.callbacks.Guard", "hydra.*", "hydra_plugins.*"]}
    if _NEWER
    else {"version_base": "1.3"}
)
