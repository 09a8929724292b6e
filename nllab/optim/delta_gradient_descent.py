"""Delta gradient descent: every linear layer forgets its old answer to the inputs it has just seen, then takes the
step.

For one input x, with u = -dL/dy the answer the layer wishes it had given and G = dL/dW, Eq. 56-57 of Behrouz et al.
2025 (arXiv 2512.24695) are

    W+ = argmin 1/2||W x - u||^2 + 1/(2 lr)||W - W_t||^2 = W_t (I - r x x^T) - r G,   r = lr / (1 + lr ||x||^2)

For many inputs, S = sum x x^T weighted as the loss is, the same argmin is W+ = (W_t - lr G)(I + lr S)^-1.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nllab.errors import DivergedError, SettingError, unknown
from nllab.optim.checks import NONNEGATIVE, check_gradients, check_parameters, check_settings, evaluate


def delta_gradient_step(weight: Tensor, gradient: Tensor, gram: Tensor, *, lr: float) -> Tensor:
    """(W - lr G)(I + lr S)^-1, the exact argmin of Eq. 56 for any inputs of any norm.

    Source: Eq. 56-57, arXiv 2512.24695. Differs from paper: eta' = eta / (1 + eta) as printed holds for ||x|| = 1 only;
        many inputs at once are ours.
    Shapes: weight, gradient (outputs, inputs), gram (inputs, inputs). Dtype: computed in float32 or wider, returned as
        weight's.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    system = torch.eye(len(gram), dtype=wide, device=gram.device) + lr * gram.to(wide)
    target = weight.to(wide) - lr * gradient.to(wide)
    return torch.cholesky_solve(target.mT, torch.linalg.cholesky(system)).mT.to(weight.dtype)


class InputHook:
    """Shows the inputs of a layer to its optimizer, when the backward pass comes through the layer: exactly those that
    G is made of.

    The optimizer is held weakly, and a copy of a model (or one read from disk) carries a hook that watches nothing.
    """

    def __init__(self, optimizer: DeltaGradientDescent | None = None) -> None:
        self.optimizer = weakref.ref(optimizer) if optimizer is not None else lambda: None

    def __reduce__(self) -> Any:
        return InputHook, ()

    def __call__(self, module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if (optimizer := self.optimizer()) is not None and output.requires_grad:
            seen = inputs[0].detach()
            output.register_hook(lambda _: optimizer.observe(module, seen))


class DeltaGradientDescent(Optimizer):
    """Delta gradient descent (DGD) for the nn.Linear layers of a model, bias included as the weight of a constant input
    1.

    Scope: everything else (other layers, and weights used without calling their layer, as in nn.MultiheadAttention's
        projections) takes the plain gradient step.
    It erases, so it does not end where gradient descent does: on 1/2||W x - y||^2 the fixed point of Eq. 56 is
    W x = u = y - W x, half the target; where the loss carries a factor c, c / (1 + c) of it. For c <= 1 every lr
    converges there.
    Source: Eq. 56-57, arXiv 2512.24695. Differs from paper: see `delta_gradient_step`.
    Units: lr is weight change per unit of gradient while lr ||x||^2 is small. loss_reduction says how the loss sums
        over rows (samples and positions): "mean" or "sum"; S is averaged or summed likewise over all rows since
        zero_grad or the layer's last step.
    State: none beyond the inputs of the step at hand (inputs^2 numbers per layer); deepcopy moves the hooks to the
        copied model.
    Raises: SettingError for settings out of range or an empty model; DivergedError for a gradient or input that is not
        finite (nothing is changed).
    """

    def __init__(self, model: nn.Module, *, lr: float = 0.1, loss_reduction: str = "mean") -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(
                f"DeltaGradientDescent needs the model, to see its layers' inputs; it was given {type(model).__name__}."
            )
        if loss_reduction not in ("mean", "sum"):
            raise unknown("loss_reduction", loss_reduction, ("mean", "sum"))
        super().__init__(check_parameters(model.named_parameters()), {"lr": lr})
        check_settings(self, lr=NONNEGATIVE)
        self.model, self.loss_reduction, self.handles = model, loss_reduction, []
        self._watch()

    def _watch(self) -> None:
        for handle in self.handles:
            handle.remove()
        hook, layers = InputHook(self), [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        self.biases: dict[Tensor, Tensor | None] = {}
        for layer in layers:
            if self.biases.setdefault(layer.weight, layer.bias) is not layer.bias:
                raise SettingError(
                    "Two nn.Linear layers share a weight but not the bias; DeltaGradientDescent needs them to share"
                    " both."
                )
        self.handles = [layer.register_forward_hook(hook) for layer in layers]
        self.seen: dict[Tensor, tuple[Tensor, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "model": self.model,
            "loss_reduction": self.loss_reduction,
            "handles": self.handles,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model" in state:  # a copy; load_state_dict comes here too, without one
            self._watch()

    @torch.no_grad()
    def observe(self, layer: nn.Linear, inputs: Tensor) -> None:
        """Add a batch of a layer's inputs (..., columns) to its gram matrix, a constant 1 appended where the layer has
        a bias."""
        rows = inputs.reshape(-1, inputs.shape[-1]).to(layer.weight.dtype)
        if layer.bias is not None:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        gram, count = self.seen.get(layer.weight, (0, 0))
        self.seen[layer.weight] = (gram + rows.mT @ rows, count + len(rows))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and the inputs seen on the way to them."""
        super().zero_grad(set_to_none)
        self.seen.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Layers whose inputs were seen take `delta_gradient_step`, all other parameters with a gradient W <- W - lr G.

        closure: recomputes the loss, which is returned; None without one.
        Raises: DivergedError for gradients or inputs that are not finite, SettingError for a gradient that is sparse or
            complex; nothing is changed then.
        """
        loss = evaluate(closure)
        gradients = {parameter: (group["lr"], gradient) for group, parameter, gradient in check_gradients(self)}
        for weight, (gram, _) in self.seen.items():
            if weight in gradients and not gram.isfinite().all():
                name = next(name for name, parameter in self.model.named_parameters() if parameter is weight)
                raise DivergedError(
                    f"The inputs of the layer with {name!r} hold NaN or infinity; the step was refused and nothing was"
                    " changed."
                )
        for weight in [weight for weight in self.seen if weight in gradients]:
            (gram, count), (lr, gradient) = self.seen.pop(weight), gradients.pop(weight)
            gram = gram / count if self.loss_reduction == "mean" else gram
            bias = self.biases[weight]
            if bias is not None and bias in gradients:
                joined, slope = (
                    torch.cat([weight, bias[:, None]], 1),
                    torch.cat([gradient, gradients.pop(bias)[1][:, None]], 1),
                )
                moved = delta_gradient_step(joined, slope, gram, lr=lr)
                bias.copy_(moved[:, -1])
            else:
                columns = weight.shape[1]
                moved = delta_gradient_step(weight, gradient, gram[:columns, :columns], lr=lr)
            weight.copy_(moved[:, : weight.shape[1]])
        for parameter, (lr, gradient) in gradients.items():
            parameter.sub_(gradient, alpha=lr)
        return loss
