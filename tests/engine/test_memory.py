"""What is asked of the system's memory."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="how other C libraries do it is theirs"
)
def test_temporaries_of_tiles_are_not_new_memory():
    """Page faults of a second block, in a process that has freed nothing large."""
    script = """
import resource
import torch
from kernelexp.engine import KERNELS
from kernelexp.engine.products import kernel_matrix

X, Z = torch.randn(1024, 20), torch.randn(2048, 20)
out = torch.zeros(1024, 2048)
kernel_matrix(KERNELS["relu_ntk"](), X, Z, out)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
kernel_matrix(KERNELS["relu_ntk"](), X, Z, out)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 8)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 20  # a tile of 1 MB has 256 pages
