"""How a context memory sees a layer: its inputs as rows, its weights as one matrix, whatever the layer is.

Every supported layer is W x for some rows x: a convolution reads the patches of its input, an embedding reads one-hot
    rows. `N` rows,
`D` inputs a row (with a last 1 for the bias), `out` outputs. Rows are scaled to unit mean square of their inputs, the
weights so that the product stays; one-hot rows have norm 1 as they are.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import DivergedError

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding
WIDE = 2048  # inputs past which a memory is cut into blocks


def is_supported(module: nn.Module) -> bool:
    """Whether a memory can see all of this layer's work: plain linear layers, convolutions of one group, dense
    embeddings."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.sparse and not module.scale_grad_by_freq
    return isinstance(module, nn.Linear)


def supported_layers(model: nn.Module) -> list[Layer]:
    """The layers of a model that memories can hold, in the model's order: trainable, not shared with a layer of another
    kind.

    The projections inside `nn.MultiheadAttention` are left out, since it uses their weights without running them.
    """
    hidden = {
        child for module in model.modules() if isinstance(module, nn.MultiheadAttention) for child in module.modules()
    }
    found = [m for m in model.modules() if is_supported(m) and m not in hidden and m.weight.requires_grad]  # type: ignore[union-attr]
    kinds: dict[nn.Parameter, set[type]] = {}
    for m in found:
        kinds.setdefault(m.weight, set()).add(type(m))  # type: ignore[arg-type]
    return [m for m in found if len(kinds[m.weight]) == 1]  # type: ignore[index,misc]


def fan_in(layer: Layer) -> int:
    return layer.num_embeddings if isinstance(layer, nn.Embedding) else layer.weight[0].numel()


def bias_of(layer: Layer) -> Tensor | None:
    return None if isinstance(layer, nn.Embedding) else layer.bias


def _unit(layer: Layer) -> float:
    return 1.0 if isinstance(layer, nn.Embedding) else fan_in(layer) ** -0.5


def memory_dtype(layer: Layer) -> torch.dtype:
    return torch.promote_types(layer.weight.dtype, torch.float32)


def patches(layer: nn.Conv1d | nn.Conv2d, given: Tensor) -> Tensor:
    """What a convolution multiplies with its filters, one row for each place of its output: (B, C, L) or (B, C, H, W)
    -> (N, D)."""
    flat = isinstance(layer, nn.Conv1d)
    given = given.reshape(-1, *given.shape[-2 if flat else -3 :])  # an input without a batch axis is a batch of one
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer.padding, str):
        total = [d * (k - 1) if layer.padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
        given, padding = F.pad(given, sides), (0,) * len(kernel)
    else:
        padding = layer.padding
    if flat:
        given = given.unsqueeze(2)
        kernel, dilation, stride, padding = (1, *kernel), (1, *dilation), (1, *stride), (0, *padding)
    return F.unfold(given, kernel, dilation, padding, stride).transpose(1, 2).flatten(0, 1)


def rows_of(layer: Layer, given: Tensor) -> Tensor:
    """A layer's inputs as its memory keeps them: (N, D) with a last 1 for the bias; the indices themselves (N,) for an
    embedding."""
    given = given.detach()
    if isinstance(layer, nn.Embedding):
        return given.reshape(-1)
    rows = patches(layer, given) if isinstance(layer, nn.Conv1d | nn.Conv2d) else given.reshape(-1, layer.in_features)
    rows = rows.to(memory_dtype(layer)) * _unit(layer)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if layer.bias is not None else rows


def deltas_of(layer: Layer, gradient: Tensor) -> Tensor:
    """The gradient at a layer's output, a row for each of `rows_of`: (N, out)."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        gradient = gradient.movedim(-2 if isinstance(layer, nn.Conv1d) else -3, -1)
    return gradient.detach().reshape(-1, gradient.shape[-1]).to(memory_dtype(layer))


def as_memory(layer: Layer) -> Tensor:
    """A layer's weight and bias in the coordinates of its memory, (out, D)."""
    weight = layer.weight.detach()
    weight = weight.T if isinstance(layer, nn.Embedding) else weight.flatten(1) / _unit(layer)
    bias = bias_of(layer)
    return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)


def gradient_of(layer: Layer, scale: float = 1.0) -> Tensor | None:
    """A layer's gradient in the coordinates of its memory, times `scale`, (out, D); None if nothing arrived. A new
    tensor."""
    if layer.weight.grad is None:
        return None
    dtype = memory_dtype(layer)
    gradient = layer.weight.grad.T if isinstance(layer, nn.Embedding) else layer.weight.grad.flatten(1)
    gradient = gradient.to(dtype) * (scale * _unit(layer))
    bias = bias_of(layer)
    if bias is None:
        return gradient
    last = torch.zeros_like(bias) if bias.grad is None else bias.grad
    return torch.cat([gradient, last[:, None].to(dtype) * scale], 1)


def add(layer: Layer, change: Tensor, factor: float = 1.0) -> None:
    """Add factor * change, in the memory's coordinates, (out, D), to a layer's weight and bias."""
    if isinstance(layer, nn.Embedding):
        layer.weight.add_(change.T, alpha=factor)
        return
    layer.weight.add_(change[:, : fan_in(layer)].reshape(layer.weight.shape), alpha=factor * _unit(layer))
    if layer.bias is not None:
        layer.bias.add_(change[:, -1], alpha=factor)


def new_context(layer: Layer, ridge: float) -> Tensor:
    """An empty memory: ridge * I as a matrix (D, D); in blocks (K, D / K, D / K) past WIDE inputs; the diagonal (D,) of
    an embedding.

    One-hot rows have a diagonal gram matrix, so an embedding's memory is exact. Blocks are not: they forget what inputs
    of different blocks do together, and count each block K times to stay on the safe side, since X^T X <= K
    blockdiag(X^T X).
    """
    width = fan_in(layer) + (bias_of(layer) is not None)
    like = {"dtype": memory_dtype(layer), "device": layer.weight.device}
    if isinstance(layer, nn.Embedding):
        return torch.full((width,), ridge, **like)
    if width <= WIDE + 1:
        return ridge * torch.eye(width, **like)
    blocks = ceil(width / WIDE)
    return (ridge * torch.eye(ceil(width / blocks), **like)).repeat(blocks, 1, 1)


def in_blocks(matrix: Tensor, context: Tensor) -> Tensor:
    """(N, D) -> (K, N, D / K) for a memory in blocks, padded with zeros; as it is for any other."""
    if context.ndim < 3:
        return matrix
    blocks, width, _ = context.shape
    return F.pad(matrix, (0, blocks * width - matrix.shape[1])).view(-1, blocks, width).transpose(0, 1)


def from_blocks(matrix: Tensor, width: int) -> Tensor:
    """The inverse of `in_blocks`: (K, N, D / K) -> (N, width)."""
    return matrix if matrix.ndim < 3 else matrix.transpose(0, 1).flatten(1)[:, :width]


def observe(context: Tensor, rows: Tensor, weights: Tensor | None = None) -> None:
    """C <- C + X^T X, in place. rows (N, D); for a diagonal memory indices (N,), each of which may have a weight
    (N,)."""
    if context.ndim == 1:
        ones = torch.ones(len(rows), dtype=context.dtype, device=context.device)
        context.index_add_(0, rows, ones if weights is None else weights.to(context.dtype))
    elif context.ndim == 2:
        context.addmm_(rows.T, rows)
    else:
        cut = in_blocks(rows, context)
        context.baddbmm_(cut.mT, cut, alpha=len(context))


def fade(context: Tensor, retention: float, ridge: float) -> None:
    """C <- retention * C in place while the ridge stays, so that the memory cannot wind up in directions that fall
    silent."""
    context.mul_(retention)
    (context if context.ndim == 1 else context.diagonal(dim1=-2, dim2=-1)).add_((1 - retention) * ridge)


def cholesky_factor(context: Tensor) -> Tensor:
    """The Cholesky factor of a memory (.., D, D). After very many samples rounding may eat the ridge: then what is lost
    is put back.

    Raises DivergedError if that does not help, as it is when the features themselves have grown out of all bounds.
    """
    factorized, failed = torch.linalg.cholesky_ex(context)
    if failed.any():
        diagonal = context.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(4 * torch.finfo(context.dtype).eps * diagonal.sum())
        factorized, failed = torch.linalg.cholesky_ex(context)
        if failed.any():
            raise DivergedError(
                "A layer's memory holds inputs beyond the reach of its number type; training has diverged. Lower the"
                " rate."
            )
    return factorized
