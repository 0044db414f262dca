"""kernelexp: kernel machines trained at the speed of the hardware, experiments anyone can repeat."""

import sys
from importlib.util import find_spec

from kernelexp.loading import load

__version__ = "0.2.0"
__all__ = ["load"]

_HELP = {"--help", "-h", "--version"}
# Here for all commands, whose own packages would be imported next. As a library it may be without (``kernelexp.engine``).
if sys.argv[:1] == ["-m"] and not _HELP & set(sys.orig_argv) and find_spec("hydra") is None:
    sys.exit(
        f"kernelexp: {sys.executable} has not what it needs; `make setup` makes .venv, `. .venv/bin/activate` takes it, "
        "or `pip install .`"
    )
