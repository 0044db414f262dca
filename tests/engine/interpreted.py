"""``engine.fused``, imported so that Triton's interpreter runs it where there is no GPU."""

import pytest
import torch

with pytest.MonkeyPatch.context() as patch:
    if not torch.cuda.is_available():
        patch.setenv("TRITON_INTERPRET", "1")  # Triton looks when it is imported, and at each call
    pytest.importorskip("triton")
    from kernelexp.engine import fused

__all__ = ["fused"]
