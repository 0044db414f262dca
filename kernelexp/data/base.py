"""What a data set is before and after preparation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from kernelexp.data.targets import TASKS
from kernelexp.engine.checks import number, one_of, refuse

if TYPE_CHECKING:
    from kernelexp.data.columns import Columns

SCALES = ("unit", "standard", "unit_norm", "none")


class Arrays(NamedTuple):
    """A data set as read: x (n, ...) of numbers, y (n,) labels or (n,), (n, c) targets.

    Images are (n, height, width) or (n, height, width, channels). Of a table: its columns; by training rows a
    number for the group or the time of each, where they have one; and, where columns were fitted to training rows, how
    they and both x become those of a few of these rows, by their places.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    columns: Columns | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    refit: Callable[[np.ndarray], tuple[Columns, np.ndarray, np.ndarray]] | None = None

    def named(self) -> dict[str, Any]:
        """Those that every data set has."""
        return dict(
            zip(ARRAYS, (self.x_train, self.y_train, self.x_test, self.y_test), strict=True)
        )


ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Shape(NamedTuple):
    """X (n_train, n_features) and (n_test, n_features), Y (n_train, n_outputs)."""

    n_train: int
    n_test: int
    n_features: int
    n_outputs: int


@dataclass(frozen=True)
class DatasetSource(ABC):
    """Where the arrays come from, how many are taken and how they are scaled.

    Attributes:
        n_train: training points taken at random; null: all.
        n_test: test points taken at random; null: all.
        balanced: take equally many training points of each class.
        scale: ``unit``: bytes / 255, other numbers from the training minimum and maximum to [0, 1];
            ``standard``: mean 0, variance 1 (of each channel of images, each column of tables);
            ``unit_norm``: |x| = 1; ``none``: as they are.
        grayscale: replace the three colours of a pixel by their luminance (ITU-R BT.601).
        task: whether y are labels or targets: ``classification``, ``regression``, or ``auto``, see
            ``kernelexp.data.targets``.
    """

    name: ClassVar[str]
    # Training and test points there are, where that is known beforehand.
    sizes: ClassVar[tuple[int, int] | None] = None
    colour: ClassVar[bool | None] = None
    # Numbers in a point and outputs to learn, of classes, where that is known beforehand.
    n_features: ClassVar[int | None] = None
    n_outputs: ClassVar[int | None] = None
    # Whether the parsed arrays are kept in the cache folder, by the name of the source and its files: where these
    # alone tell what they are, and no parameter, no seed.
    cached: ClassVar[bool] = False
    # Two classes as one {0, 1} output instead of two.
    single_output: ClassVar[bool] = False

    n_train: int | None = None
    n_test: int | None = None
    balanced: bool = False
    scale: str = "unit"
    grayscale: bool = False
    task: str = "auto"

    def __post_init__(self) -> None:
        number("n_train", self.n_train, 2, whole=True, optional=True)
        number("n_test", self.n_test, 1, whole=True, optional=True)
        if self.sizes is not None:
            self.check_taken(*self.sizes)
        one_of("scale", self.scale, SCALES)
        one_of("task", self.task, TASKS)
        if self.grayscale and self.colour is False:
            raise refuse("grayscale", True, f"false for dataset={self.name}, which has no colours")

    def check_taken(self, n_train: int, n_test: int, prefix: str = "") -> None:
        """Refuse to take more than these points that there are; ``prefix``: of the keys, where none is put before them.

        Raises:
            ValueError: in one line.
        """
        for key, size in (("n_train", n_train), ("n_test", n_test)):
            wanted = getattr(self, key)
            if wanted is not None and wanted > size:
                allowed = f"at most {size} for dataset={self.name}, or null"
                raise refuse(f"{prefix}{key}", wanted, allowed)

    def taken(self, there: Shape) -> Shape:
        """The sizes of what is taken of the points there are; raises as ``shape``."""
        self.check_taken(there.n_train, there.n_test, "dataset.")
        return there._replace(
            n_train=self.n_train or there.n_train, n_test=self.n_test or there.n_test
        )

    def shape(self) -> Shape | None:
        """The sizes this will have, None where only reading it would tell.

        Raises:
            ValueError: where it has fewer points than are to be taken.
        """
        if self.sizes is None or self.n_features is None or self.n_outputs is None:
            return None
        n_train, n_test = self.n_train or self.sizes[0], self.n_test or self.sizes[1]
        colours = 3 if self.grayscale else 1
        outputs = 1 if self.task == "regression" else self.n_outputs
        return Shape(n_train, n_test, self.n_features // colours, outputs)

    @property
    def classifies(self) -> bool | None:
        """Whether y are labels, None where only reading them would tell."""
        if self.task != "auto":
            return self.task == "classification"
        return True if self.single_output or self.n_outputs is not None else None

    @property
    def in_bytes(self) -> bool:
        """Whether inputs will be bytes / 255, as far as that is known beforehand."""
        return False

    @property
    def mapped(self) -> bool:
        """Whether training inputs stay in their file."""
        return False

    @abstractmethod
    def read(self, data_dir: Path, seed: int) -> Arrays:
        """Fetch the arrays, from ``data_dir`` where files are needed.

        Raises:
            FileNotFoundError: in one line, with the files that would help.
        """

    def subspace(self, seed: int) -> np.ndarray | None:
        """Orthonormal directions (n_features, r) that are all the targets depend on; None: not known."""
        return None

    def files(self, data_dir: Path) -> list[Path] | None:
        """The files that ``read`` will read, empty where they are not there; None: it needs none."""
        return None

    @abstractmethod
    def location(self, data_dir: Path) -> str:
        """Where the data are from, once they are read, to be recorded with a run."""
