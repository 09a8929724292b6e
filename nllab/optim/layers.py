"""How a context sees a layer: its inputs as rows, its weight and bias as one matrix, whatever the layer is.

Every supported layer is W x for some rows x: a convolution reads the patches of its input, an embedding reads one-hot
rows. `N` rows, `D` inputs a row (with a last 1 for the bias), `out` outputs. Rows are scaled to unit mean square of
their inputs, the weights so that the product stays; one-hot rows have norm 1 as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.optim.context import Context
from nllab.optim.patches import Patches

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding


def is_supported(module: nn.Module) -> bool:
    """Whether a memory can see all of this layer's work: plain linear layers, convolutions of one group, dense
    embeddings."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq
    return isinstance(module, nn.Linear)


def _own_weight(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.requires_grad


def supported_layers(model: nn.Module) -> list[Layer]:
    """The layers of a model that contexts can hold, in the model's order: with a trainable weight of their own, neither
    computed from other parameters nor shared with a layer of another kind.

    The projections inside `nn.MultiheadAttention` are left out, since it uses their weights without running them.
    """
    hidden = {
        child for module in model.modules() if isinstance(module, nn.MultiheadAttention) for child in module.modules()
    }
    supported = [m for m in model.modules() if is_supported(m) and m not in hidden and _own_weight(m)]
    kinds: dict[nn.Parameter, set[type]] = {}
    for m in supported:
        kinds.setdefault(m.weight, set()).add(type(m))  # type: ignore[arg-type]
    return [m for m in supported if len(kinds[m.weight]) == 1]  # type: ignore[index,misc]


@dataclass(frozen=True, eq=False, slots=True)
class Matrix:
    """A layer's weight and bias in the coordinates of its context: the matrix W, (out, D).

    table: the weight of an embedding, (D, out), whose rows are picked by index.
    """

    weight: Tensor
    bias: Tensor | None = None
    table: bool = False

    @classmethod
    def of(cls, layer: Layer) -> Matrix:
        """The matrix of a supported layer."""
        if isinstance(layer, nn.Embedding):
            return cls(layer.weight, table=True)
        return cls(layer.weight, layer.bias)

    @property
    def fan_in(self) -> int:
        """Inputs of the layer, without the constant 1 of a bias; of a convolution, the numbers in a patch."""
        return self.weight.shape[0] if self.table else self.weight.numel() // self.weight.shape[0]

    @property
    def out(self) -> int:
        """Outputs of the layer: units, filters, or the width of an embedding."""
        return self.weight.shape[1 if self.table else 0]

    @property
    def width(self) -> int:
        """D, the inputs and the constant 1 of the bias."""
        return self.fan_in + (self.bias is not None)

    @property
    def unit(self) -> float:
        """What rows are multiplied by, and the weights divided."""
        return 1.0 if self.table else self.fan_in**-0.5

    @property
    def dtype(self) -> torch.dtype:
        """Of its context: at least single precision."""
        return torch.promote_types(self.weight.dtype, torch.float32)

    def tensor(self) -> Tensor:
        """W as it stands, (out, D)."""
        weight = self.weight.detach().to(self.dtype)
        weight = weight.T if self.table else weight.flatten(1) / self.unit
        return weight if self.bias is None else torch.cat([weight, self.bias.detach()[:, None].to(self.dtype)], 1)

    def gradient(self, scale: float = 1.0) -> Tensor | None:
        """The gradient of W times `scale`, (out, D), a new tensor; None if nothing arrived."""
        if self.weight.grad is None:
            return None
        gradient = self.weight.grad.to_dense() if self.weight.grad.is_sparse else self.weight.grad
        gradient = gradient.T if self.table else gradient.flatten(1)
        gradient = gradient.to(self.dtype) * (scale * self.unit)
        if self.bias is None:
            return gradient
        last = torch.zeros_like(self.bias) if self.bias.grad is None else self.bias.grad
        return torch.cat([gradient, last[:, None].to(self.dtype) * scale], 1)

    def add_(self, other: Tensor, *, alpha: float = 1.0) -> None:
        """W <- W + alpha * other, (out, D)."""
        if self.table:
            self.weight.add_(other.T, alpha=alpha)
            return
        self.weight.add_(other[:, : self.fan_in].reshape(self.weight.shape), alpha=alpha * self.unit)
        if self.bias is not None:
            self.bias.add_(other[:, -1], alpha=alpha)

    def new_context(self, ridge: float) -> Context:
        """A context of this width before any input, on the device of the weight."""
        return Context.empty(self.width, ridge, one_hot=self.table, dtype=self.dtype, device=self.weight.device)


def patches(layer: nn.Conv1d | nn.Conv2d, given: Tensor) -> Patches:
    """What a convolution multiplies with its filters, one row for each place of its output: (B, C, L) or (B, C, H, W)
    -> (N, D)."""
    flat = isinstance(layer, nn.Conv1d)
    given = given.reshape(-1, *given.shape[-2 if flat else -3 :])  # an input without a batch axis is a batch of one
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer.padding, str):
        total = [d * (k - 1) if layer.padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    else:
        sides = [side for width in reversed(layer.padding) for side in (width, width)]
    if any(sides):
        given = F.pad(given, sides)
    if flat:
        given = given.unsqueeze(2)
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
    return Patches(given, kernel, stride, dilation, layer.bias is not None)


def inputs_of(layer: Layer, given: Tensor) -> Tensor | Patches:
    """A copy of a layer's inputs as its context keeps them: (N, D) with a last 1 for the bias; the indices themselves
    (N,) for an embedding."""
    given = given.detach()
    if isinstance(layer, nn.Embedding):
        return given.reshape(-1)
    matrix = Matrix.of(layer)
    if not isinstance(layer, nn.Linear):
        return patches(layer, given.to(matrix.dtype) * matrix.unit)
    flat = given.reshape(-1, layer.in_features)
    if layer.bias is None:
        return flat.to(matrix.dtype) * matrix.unit
    return F.pad(flat.to(matrix.dtype) * matrix.unit, (0, 1), value=1.0)


def rows_of(layer: Layer, given: Tensor) -> Tensor:
    """`inputs_of`, laid out."""
    return inputs_of(layer, given)[:]


def deltas_of(layer: Layer, gradient: Tensor) -> Tensor:
    """The gradient at a layer's output, a row for each of `rows_of`: (N, out)."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        gradient = gradient.movedim(-2 if isinstance(layer, nn.Conv1d) else -3, -1)
    return gradient.detach().reshape(-1, gradient.shape[-1]).to(Matrix.of(layer).dtype)
