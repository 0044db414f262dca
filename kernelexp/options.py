"""Options of the commands beside Hydra's: what is wrong with them is said in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong without the whole usage above it."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("python -m ")
        message = message.removeprefix("argument ")
        self.exit(2, f"{name}: {message}; --help has the options\n")
