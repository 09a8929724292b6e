"""Newton-Schulz iteration: the singular values of a matrix driven towards 1 by matrix products alone."""

from __future__ import annotations

import torch
from torch import Tensor

from nllab.optim.checks import floor

# 3/2 X - 1/2 X X^T X: the first descent step of Eq. 44 at step size 1/4. It converges to the polar factor, slowly from
# small values.
CUBIC = (1.5, -0.5, 0.0)
# Keller Jordan's Muon (kellerjordan.github.io/posts/muon): steepest at 0, so that 5 steps are enough, but it ends in a
# band, not at 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


def newton_schulz(matrix: Tensor, *, steps: int = 5, coefficients: tuple[float, float, float] = QUINTIC) -> Tensor:
    """Nearly the orthogonal factor U V^T of a matrix U S V^T.

    Repeats X <- a X + b (X X^T) X + c (X X^T)^2 X, starting from X = matrix / ||matrix||_F.
    With QUINTIC and 5 steps, singular values above 1/500 of the Frobenius norm end between 0.68 and 1.21; with CUBIC
    every one above zero goes to 1 in the end. The scale of the matrix does not matter, and zero stays zero.
    Source: Eq. 42-44, arXiv 2512.24695, with the iteration of Muon. Differs from paper: Eq. 44 pulls every iterate back
        to the gradient, which Newton-Schulz drops after the first step.
    Shapes: (..., rows, columns), batched; the result has the same. Dtype: computed in float32 or wider, returned as it
        came.

    ```pycon
    >>> newton_schulz(torch.diag(torch.tensor([3.0, 1.0])), steps=30, coefficients=CUBIC).round(decimals=3)
    tensor([[1., 0.],
            [0., 1.]])

    ```
    """
    x = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=floor(x.dtype))
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrix.dtype)
