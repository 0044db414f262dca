"""Image sets by torchvision: found in the data folder, else downloaded."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.cache import cache_dir

_IDX = "{train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte}"


@dataclass(frozen=True)
class Vision(DatasetSource):
    """What the torchvision sets share; a subclass names its files and reads one split."""

    cached: ClassVar[bool] = True
    n_outputs: ClassVar[int | None] = 10
    # Which files torchvision reads, for people and as a pattern.
    needed: ClassVar[str]
    pattern: ClassVar[str]

    @property
    def in_bytes(self) -> bool:
        return self.scale == "unit" and not self.grayscale

    @abstractmethod
    def _split(self, root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray]:
        """X and y of one split; raises RuntimeError where the files are not in ``root``."""

    def read(self, data_dir: Path, seed: int) -> Arrays:
        try:
            return self._both(data_dir, download=False)
        except (RuntimeError, ValueError, TypeError, AssertionError):
            pass  # not there, torchvision's word for it is RuntimeError, or broken
        try:
            return self._both(_download_place(data_dir), download=True)
        except Exception as error:  # whatever the network, the disk or a wrong file raises
            if self.files(data_dir):
                raise ValueError(
                    f"dataset={self.name}: files in {self._place(data_dir)} are broken or missing "
                    f"({_first_line(error)}); remove {self.pattern} there, and put {self.needed}"
                ) from error
            raise FileNotFoundError(
                f"dataset={self.name}: not in data_dir={data_dir} and not to be downloaded "
                f"({_first_line(error)}); put {self.needed} or {self.name}.npz there, or take "
                "dataset=digits, which needs no files"
            ) from error

    def files(self, data_dir: Path) -> list[Path]:
        return sorted(self._place(data_dir).glob(self.pattern))

    def location(self, data_dir: Path) -> str:
        return str(self._place(data_dir))

    def _place(self, data_dir: Path) -> Path:
        """The folder that is read."""
        here = any(data_dir.glob(self.pattern))
        return data_dir if here else _download_place(data_dir)

    def _both(self, root: Path, download: bool) -> Arrays:
        return Arrays(*self._split(root, True, download), *self._split(root, False, download))


def _download_place(data_dir: Path) -> Path:
    return data_dir if _writable(data_dir) else cache_dir()


def _writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(existing, os.W_OK)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@dataclass(frozen=True)
class MNIST(Vision):
    """Handwritten digits, 28 x 28; LeCun, Cortes, Burges."""

    name: ClassVar[str] = "mnist"
    sizes: ClassVar[tuple[int, int] | None] = (60_000, 10_000)
    colour: ClassVar[bool | None] = False
    n_features: ClassVar[int | None] = 28 * 28
    torchvision_name: ClassVar[str] = "MNIST"
    needed: ClassVar[str] = "MNIST/raw/" + _IDX
    pattern: ClassVar[str] = "MNIST/raw/*-ubyte"

    def _split(self, root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets

        cls: Any = getattr(datasets, self.torchvision_name)
        split = cls(root=root, train=train, download=download)
        return split.data.numpy(), split.targets.numpy()


@dataclass(frozen=True)
class FashionMNIST(MNIST):
    """Clothes, 28 x 28; Xiao, Rasul, Vollgraf 2017."""

    name: ClassVar[str] = "fmnist"
    torchvision_name: ClassVar[str] = "FashionMNIST"
    needed: ClassVar[str] = "FashionMNIST/raw/" + _IDX
    pattern: ClassVar[str] = "FashionMNIST/raw/*-ubyte"


@dataclass(frozen=True)
class KMNIST(MNIST):
    """Japanese characters, 28 x 28; Clanuwat et al. 2018."""

    name: ClassVar[str] = "kmnist"
    torchvision_name: ClassVar[str] = "KMNIST"
    needed: ClassVar[str] = "KMNIST/raw/" + _IDX
    pattern: ClassVar[str] = "KMNIST/raw/*-ubyte"


@dataclass(frozen=True)
class CIFAR10(Vision):
    """Photographs, 32 x 32, colour; Krizhevsky 2009."""

    name: ClassVar[str] = "cifar10"
    sizes: ClassVar[tuple[int, int] | None] = (50_000, 10_000)
    colour: ClassVar[bool | None] = True
    n_features: ClassVar[int | None] = 32 * 32 * 3
    needed: ClassVar[str] = (
        "cifar-10-batches-py/{data_batch_1 to data_batch_5, test_batch, batches.meta}"
    )
    pattern: ClassVar[str] = "cifar-10-batches-py/*_batch*"

    def _split(self, root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision.datasets import CIFAR10

        split = CIFAR10(root=root, train=train, download=download)
        return split.data, np.asarray(split.targets)


@dataclass(frozen=True)
class SVHN(Vision):
    """House numbers, 32 x 32, colour; Netzer et al. 2011."""

    name: ClassVar[str] = "svhn"
    sizes: ClassVar[tuple[int, int] | None] = (73_257, 26_032)
    colour: ClassVar[bool | None] = True
    n_features: ClassVar[int | None] = 32 * 32 * 3
    needed: ClassVar[str] = "train_32x32.mat and test_32x32.mat"
    pattern: ClassVar[str] = "t*_32x32.mat"

    def _split(self, root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision.datasets import SVHN

        split = SVHN(root=root, split="train" if train else "test", download=download)
        return split.data.transpose(0, 2, 3, 1), split.labels
