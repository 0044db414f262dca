"""Products with few columns: those of float64, however many columns there are."""

import pytest
import torch

from kernelexp.engine.narrow import narrow_matmul, narrow_transposed_matmul


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("c", [1, 2, 7, 8, 9, 10, 16, 17, 24, 33])
def test_products(c, dtype):
    generator = torch.Generator().manual_seed(c)
    K, W, V = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((37, 53), (53, c), (37, c))
    )
    near = {"rtol": 0, "atol": 2e-5 if dtype == torch.float32 else 1e-13}

    def is_product(found, left, right):
        assert found.shape == (len(left), c)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), left.double() @ right.double(), **near)

    is_product(narrow_matmul(K, W), K, W)
    is_product(narrow_transposed_matmul(K, V), K.mT, V)
