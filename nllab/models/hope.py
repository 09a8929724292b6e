"""HOPE: a self-modifying memory followed by a continuum memory system, and the complete models built of such blocks.

    o = x + mixer(norm(x)),    y = CMS(o)                                                                       (Eq.
    94-97)

The mixer is all that sets HOPE, Hope-Attention and the models they are compared with apart: `SelfModifyingTitans` makes
it HOPE, softmax attention Hope-Attention, and with a CMS of one level Hope-Attention is an ordinary Transformer
(`MIXERS` lists them all).

The clock of tokens. A language model knows its loss while it reads: the next token. It reads up to the next write of
any level, takes the gradient of the summed loss of just these tokens with respect to the fast weights that read them,
writes, and reads on with what was written (online: later losses are computed after earlier writes). The last of these
losses needs the first token of the next segment, which a model may know when it predicts the one after: nothing leaks.
Inner gradients stay inside their segment (the mixer's state at its start is given); outer gradients go through all
writes. Axis letters: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from math import prod
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nllab.checks import check_state, check_tensor, check_tokens
from nllab.errors import SettingError, ShapeError, check_choice, check_sizes, check_type, check_whole, check_wholes
from nllab.levels import Level
from nllab.memory.titans import SelfModifyingTitans, detach
from nllab.models.cms import CMSState, ContinuumMemory, Periods, level_names
from nllab.models.mixers import LSTM, CausalAttention, LinearAttention, Window

# Name -> class and its own settings: HOPE, Hope-Attention and what they are compared with.
MIXERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "self-modifying": (SelfModifyingTitans, {}),
    "titans": (SelfModifyingTitans, {"adaptive": (), "erase": False, "momentum": 0.9, "max_inner_lr": 0.05}),
    "attention": (CausalAttention, {}),
    "linear": (LinearAttention, {}),
    "delta": (LinearAttention, {"delta": True}),
    "lstm": (LSTM, {}),
    "window": (Window, {}),
}


class Block(nn.Module):
    """One block, y = CMS(x + mixer(norm(x))): any mixer `y, state = mixer(x, state)` and a continuum memory system.

    Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 94-97.
    Differs from paper: the norm (layer norm without weights) and the residual are ours; the paper omits both from its
        formulas.

    Shapes: x (B, T, D) · returns (B, T, D). Raises: ShapeError for another rank, width, dtype, T = 0 or NaN.
    """

    def __init__(self, mixer: nn.Module, memory: ContinuumMemory) -> None:
        super().__init__()
        check_type("mixer", mixer, nn.Module)
        check_type("memory", memory, ContinuumMemory)
        self.mixer, self.memory, self.dim = mixer, memory, memory.dim

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("Block: x", x, ("B", "T", self.dim), next(self.memory.parameters()))
        return self.stream(x)[0]

    def stream(
        self, x: Tensor, state: Any = None, memory: CMSState | None = None, *, writes: bool = True
    ) -> tuple[Tensor, Any]:
        """The same from a mixer state (None: fresh), with fast weights in the CMS (None: its parameters); returns the
        new mixer state.

        writes=False: a mixer that learns inside the sequence by an inner objective (Titans) does not.
        """
        settings = {} if writes or not isinstance(self.mixer, SelfModifyingTitans) else {"writes": False}
        y, state = self.mixer(F.layer_norm(x, x.shape[-1:]), state, **settings)
        return self.memory.read(x + y, memory), state


def Hope(
    dim: int,
    levels: Periods = (1, 8, 64),
    *,
    mixer: str = "self-modifying",
    variant: str = "sequential",
    hidden: int | None = None,
    inner_lr: float | None = None,
    **mixer_settings: Any,
) -> Block:
    """A HOPE block: self-modifying Titans, then a CMS. `levels`, `variant`, `hidden`, `inner_lr` are those of
    `ContinuumMemory`,
    all other settings those of the mixer (`SelfModifyingTitans`: heads, chunk_size, ...).

    Source: Eq. 94-97, Behrouz et al. 2025, arXiv 2512.24695. Differs from paper: see `Block` and `SelfModifyingTitans`.
    Raises: SettingError for an unknown mixer or one of its settings.
    """
    check_choice("mixer", mixer, MIXERS)
    make, settings = MIXERS[mixer]
    memory = ContinuumMemory(dim, levels, variant=variant, hidden=hidden, inner_lr=inner_lr)
    try:
        return Block(make(dim, **{**settings, **mixer_settings}), memory)
    except TypeError as error:
        raise SettingError(
            f"Mixer {mixer!r} does not take these settings: {', '.join(mixer_settings)} ({error})."
        ) from error


def HopeAttention(dim: int, levels: Periods = (1, 8, 64), *, heads: int = 1, **settings: Any) -> Block:
    """Hope-Attention: the HOPE block with softmax attention in place of self-modifying Titans; settings as in `Hope`.

    Source: section 7.3 and Table 1, Behrouz et al. 2025, arXiv 2512.24695. Differs from paper: see `Block`; rotary
        positions are ours.
    """
    return Hope(dim, levels, mixer="attention", heads=heads, **settings)


class ModelState(NamedTuple):
    """A model inside a sequence: per block the mixer's state and, on the clock of tokens, the CMS's; and the tokens
    read since the last write, which the next call reads again because their loss needs its first token."""

    mixers: tuple[Any, ...]
    memories: tuple[CMSState | None, ...]
    pending: Tensor


torch.serialization.add_safe_globals([ModelState])  # so that a saved state opens in safe mode


class BlockModel(nn.Module):
    """An input, blocks, a norm and a linear head: what every model of blocks is made of."""

    blocks: Sequence[Block]

    @property
    def nothing(self) -> tuple[None, ...]:
        """The states of mixers, or of CMS, at a fresh start."""
        return (None,) * len(self.blocks)

    def levels(self) -> tuple[Level, ...]:
        """For the clock of steps: input, mixers, memories from fast to slow (those of one name in several blocks are
        one level), head."""
        inner = [level for i, block in enumerate(self.blocks) for level in block.memory.levels(f"blocks.{i}.memory.")]
        periods = sorted({level.name: level.period for level in inner}.items(), key=lambda item: item[1])
        memories = (
            Level(name, tuple(m for level in inner if level.name == name for m in level.modules), n)
            for name, n in periods
        )
        return (Level("input", ("embed", "place")), Level("mixer", "blocks.*.mixer"), *memories, Level("head", "head"))

    def run(
        self, x: Tensor, mixers: Sequence[Any], memories: Sequence[CMSState | None], writes: bool
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """The blocks and the norm, (B, T, D) both ways, from the states of the mixers and CMS; returns the new states
        of the mixers."""
        after = []
        for block, mixer, memory in zip(self.blocks, mixers, memories, strict=True):
            x, mixer = block.stream(x, mixer, memory, writes=writes)
            after.append(mixer)
        return F.layer_norm(x, x.shape[-1:]), tuple(after)


class LanguageModel(BlockModel):
    """Tokens to scores: embedding, blocks, norm, linear head. Build it with `HopeLM` or `PeerLM`.

    outputs: scores per token, if other than the vocabulary (then there is no next-token loss and no clock of tokens).
    The clock of tokens runs where the blocks' CMS have a rate `inner_lr` other than 0. Of T tokens whose next token is
    known a level writes floor(T / period) times; the rest wait in the state. Training keeps the graph of all tokens:
    `detach(state)` truncates it.

    Compile: `torch.compile(model)` gives the model's scores and gradients (an LSTM breaks the graph). The clock of
    tokens cannot be compiled: it differentiates twice, which compiled graphs do not.

    Source: Eq. 71 and section 7.3, Behrouz et al. 2025, arXiv 2512.24695, with the next-token loss as its objective.
    Differs from paper: where an inner gradient ends is not said there; here it stays within the tokens since the last
        write of any level.

    Shapes: tokens (B, T) integer · returns (B, T, V).
    Raises: ShapeError for another rank or dtype, T = 0, or tokens outside the vocabulary; SettingError for a state of
        another model.
    """

    def __init__(self, vocabulary: int, blocks: Sequence[Block], *, outputs: int | None = None) -> None:
        super().__init__()
        outputs = vocabulary if outputs is None else outputs
        check_wholes(vocabulary=vocabulary, outputs=outputs)
        if not isinstance(blocks, Sequence) or not blocks or not all(isinstance(block, Block) for block in blocks):
            raise SettingError(f"blocks are {blocks!r:.60}; expected a list of one Block or more.")
        if outputs != vocabulary and any(b.memory.inner_lr is not None for b in blocks):
            raise SettingError(
                f"outputs is {outputs}, vocabulary is {vocabulary}; the clock of tokens needs next-token scores."
            )
        if len({(b.dim, b.memory.inner_lr is None) for b in blocks}) > 1:
            raise SettingError(
                "LanguageModel: blocks differ in width, or only some have an inner_lr; expected all alike."
            )
        dim = blocks[0].dim
        self.embed = nn.Embedding(vocabulary, dim)
        self.blocks = cast(Sequence[Block], nn.ModuleList(blocks))
        self.head = nn.Linear(dim, outputs)

    reads_tokens = True

    @classmethod
    def for_stream(
        cls, experiment: Any, features: int, classes: int, image_shape: tuple[int, int] | None
    ) -> LanguageModel:
        """HOPE of an experiment's settings: one block, a memory that writes at every token."""
        dim = experiment.dim
        heads = dim // HEAD_WIDTH if dim % HEAD_WIDTH == 0 else 1
        settings = {"levels": experiment.periods, "variant": experiment.variant, "hidden": experiment.hidden}
        return HopeLM(classes, dim, 1, heads=heads, chunk_size=1, **settings)

    def forward(self, tokens: Tensor, *, writes: bool = True) -> Tensor:
        return self.stream(tokens, writes=writes)[0]

    def stream(
        self, tokens: Tensor, state: ModelState | None = None, *, writes: bool = True
    ) -> tuple[Tensor, ModelState]:
        """Scores for `tokens`, read on from `state` (None: a fresh start), and the state after them; any cutting gives
        the same scores.

        writes=False: neither Titans nor the CMS learn from these tokens; they read what was written before.
        """
        check_type("writes", writes, bool)
        self.check(tokens, state)
        if state is None:
            state = ModelState(self.nothing, self.nothing, tokens[:, :0])
        if writes and (state.memories[0] is not None or any(block.memory.writes_tokens for block in self.blocks)):
            return self.learn(tokens, state)
        already = state.pending.shape[1]
        tokens = torch.cat([state.pending, tokens], 1)
        x, mixers = self.run(self.embed(tokens), state.mixers, state.memories, writes)
        return self.head(x)[:, already:], ModelState(mixers, state.memories, tokens[:, :0])

    def learn(self, tokens: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """`stream` on the clock of tokens: read a segment, write, read on; also where outer gradients are switched
        off."""
        outer = torch.is_grad_enabled()
        # Fused attention has no second derivative, and cuDNN's LSTM none at all outside training.
        fused = sdpa_kernel(SDPBackend.MATH) if outer else nullcontext()
        with torch.inference_mode(False), torch.enable_grad(), fused, torch.backends.cudnn.flags(enabled=False):
            mixers, memories = (
                state.mixers,
                [m or b.memory.start(len(tokens)) for b, m in zip(self.blocks, state.memories, strict=True)],
            )
            tokens, already = torch.cat([state.pending, tokens], 1), state.pending.shape[1]
            scores, anchor = [], None
            while True:
                size = min(
                    block.memory.tokens_to_write(memory.position)
                    for block, memory in zip(self.blocks, memories, strict=True)
                )
                segment, rest = tokens[:, :size], tokens[:, size:]
                reading = [
                    m._replace(fast_weights={n: fresh(w, anchor, outer) for n, w in m.fast_weights.items()})
                    for m in memories
                ]
                x, after = self.run(self.embed(segment), mixers, reading, True)
                scores.append(y := self.head(x))
                if not rest.shape[1]:
                    break
                loss = F.cross_entropy(y.flatten(0, 1), tokens[:, 1 : size + 1].flatten(), reduction="sum")
                weights = [w for m in reading for w in m.fast_weights.values()]
                gradients = iter(torch.autograd.grad(loss, weights, create_graph=outer))
                with torch.set_grad_enabled(outer):
                    pairs = zip(self.blocks, memories, strict=True)
                    memories = [
                        b.memory.advance(m, {name: next(gradients) for name in m.fast_weights}, size) for b, m in pairs
                    ]
                mixers, tokens, anchor = after, rest, loss
                if not outer:
                    mixers, scores[-1] = detach(mixers), y.detach()
            answer = torch.cat(scores, 1)[:, already:]
        state = ModelState(mixers, tuple(memories), segment)
        return (answer, state) if outer else (answer.detach(), detach(state))

    def check(self, tokens: Tensor, state: ModelState | None) -> None:
        """Raise ShapeError unless the tokens, and those that wait in the state, are (B, T) integers of the vocabulary,
        and the state fits.

        While compiling it looks at no values; the mixers check their own part of the state.
        """
        size, like, sizes = self.embed.num_embeddings, self.embed.weight, {}
        check_tokens("LanguageModel: tokens", tokens, size, like, sizes=sizes)
        if state is None:
            return
        check_state("LanguageModel: state", state, ModelState(self.nothing, self.nothing, None), like)  # type: ignore[arg-type]
        check_tokens("LanguageModel: state.pending", state.pending, size, like, "t", sizes)
        if state.memories != self.nothing:
            for block, memory in zip(self.blocks, state.memories, strict=True):
                block.memory.check_state(memory, sizes["B"])


class After(torch.autograd.Function):
    """`weights` unchanged, but behind `anchor` in the graph.

    An inner gradient asks for these weights only, and autograd walks back no further than the oldest of them. A slow
    level, unwritten since the start, must not look as old as it is, else every segment would walk over all segments
    before it: quadratic in T.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, anchor: Tensor | None) -> Tensor:  # type: ignore[override]
        return weights.view_as(weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def fresh(weights: Tensor, anchor: Tensor | None, outer: bool) -> Tensor:
    """The same fast weights as this segment's own variable of the inner gradient."""
    if outer and weights.requires_grad:
        return After.apply(weights, anchor)  # type: ignore[return-value]
    return weights.detach().requires_grad_()


def next_token_loss(scores: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy (nats per token) of scores (B, T, V) against the tokens (B, T) that follow; the last score has
    no target.

    Raises: ShapeError where the two do not fit, or there is no following token.
    """
    sizes: dict[str, int] = {}
    check_tensor("scores", scores, ("B", "T", "V"), scores, sizes=sizes)
    check_tokens("tokens", tokens, sizes["V"], scores, sizes=sizes)
    if sizes["T"] == 1:
        raise ShapeError("tokens has one token a sequence; expected 2 or more, since the loss is that of the next one.")
    return F.cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def HopeLM(
    vocabulary: int, dim: int = 64, layers: int = 2, *, outputs: int | None = None, **block_settings: Any
) -> LanguageModel:
    """A language model of HOPE blocks; `mixer="attention"` makes it Hope-Attention. Block settings (levels, mixer, ...)
    as in `Hope`.

    Source: Eq. 94-97. Differs from paper: see `Block` and `SelfModifyingTitans`; head and embedding are not tied.
    """
    check_whole("layers", layers)
    return LanguageModel(vocabulary, [Hope(dim, **block_settings) for _ in range(layers)], outputs=outputs)


def PeerLM(
    vocabulary: int, dim: int = 64, layers: int = 2, *, mixer: str, parameters: int, **settings: Any
) -> LanguageModel:
    """A language model with an ordinary MLP in each block (a CMS of one level), its hidden width chosen to hold
    `parameters` in all.

    mixer: "attention" (a Transformer), "linear", "delta" (DeltaNet), "titans" (static projections), "lstm", "window"
        (an MLP), or any other of `MIXERS`. Raises: SettingError if the model is larger than `parameters` before its
        MLPs have a single hidden unit.
    """
    if taken := {"levels", "hidden"} & settings.keys():
        raise SettingError(f"PeerLM chooses {' and '.join(sorted(taken))} itself, to hold `parameters`; leave it out.")
    build = partial(HopeLM, vocabulary, dim, layers, levels=(1,), mixer=mixer, **settings)
    with torch.device("meta"):
        least = sum(p.numel() for p in build(hidden=1).parameters())
    check_whole("parameters", parameters)
    if parameters < least:
        raise SettingError(f"PeerLM {mixer!r}: parameters is {parameters}; at width {dim} it has at least {least}.")
    # A hidden unit has a row of `up` with its bias, and a column of `down`.
    return build(hidden=1 + round((parameters - least) / (layers * (2 * dim + 1))))


def from_pretrained_mlps(
    model: LanguageModel, periods: Sequence[int], *, inner_lr: float | None = 0.0
) -> LanguageModel:
    """Level stacking: the MLPs of a pretrained model become levels of a CMS, the first layers' the fastest; everything
    else is copied.

    The model's layers are cut into as many runs as there are periods (fast to slow). With inner_lr 0 the result is the
    pretrained model, bit for bit; above 0 its MLPs learn inside each sequence; and `levels()` gives its levels for the
    clock of steps.

    Source: section 7.3, Behrouz et al. 2025, arXiv 2512.24695: θ_0 of level i = the pretrained MLP i.
    Differs from paper: which MLP goes to which level is not said there. For modules of other models see
        `ContinuumMemory(blocks=...)`.
    Raises: SettingError for more periods than layers, or layers that already hold several levels.
    """
    check_type("model", model, LanguageModel)
    layers = len(model.blocks)
    check_sizes("periods", periods)
    if list(periods) != sorted(periods):
        raise SettingError(f"from_pretrained_mlps: periods are {tuple(periods)}; expected them from fast to slow.")
    if len(periods) > layers:
        raise SettingError(f"from_pretrained_mlps: {len(periods)} periods for {layers} layers; expected 1 to {layers}.")
    names, blocks = level_names(len(periods)), []
    for i, block in enumerate(model.blocks):
        if len(block.memory.blocks) != 1:
            raise SettingError(
                f"from_pretrained_mlps: layer {i} holds {len(block.memory.blocks)} levels; expected one MLP a layer."
            )
        level = i * len(periods) // layers
        mlps = list(block.memory.blocks.values())
        memory = ContinuumMemory(block.dim, {names[level]: periods[level]}, inner_lr=inner_lr, blocks=mlps)
        blocks.append(Block(deepcopy(block.mixer), memory))
    stacked = LanguageModel(model.embed.num_embeddings, blocks, outputs=model.head.out_features)
    stacked.embed, stacked.head = deepcopy(model.embed), deepcopy(model.head)
    return stacked.train(model.training)


HEAD_WIDTH, ROWS_A_CHUNK = 32, 4  # width of a head and rows of an image between two writes of the memory


class HopeClassifier(BlockModel):
    """Images to class scores: patches in reading order become tokens, HOPE blocks read them, their mean is classified.

    shape: (height, width) or (channels, height, width). patch: (height, width) of a patch; None takes one row of the
        image.
    Positions are learned, as attention and CMS have no order of their own; the head starts at zero. Block settings
    (levels, ...) as in `Hope`; the clock of tokens is not there, since labels are not known inside an image.

    Source: Eq. 94-97 for the blocks. Differs from paper: it has no image model of this kind.
    Shapes: images (B, ...) with the elements of `shape` in any folding · returns (B, classes).
    Raises: SettingError for a shape that patches do not tile, or inner_lr; ShapeError for other images, or NaN.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        dim: int = 64,
        layers: int = 1,
        *,
        patch: Sequence[int] | None = None,
        **block_settings: Any,
    ) -> None:
        super().__init__()
        check_sizes("shape", shape, 2, 3)
        check_wholes(classes=classes, dim=dim, layers=layers)
        channels, height, width = shape if len(shape) == 3 else (1, *shape)
        patch = (1, width) if patch is None else patch
        check_sizes("patch", patch, 2)
        ph, pw = patch
        if height % ph or width % pw:
            raise SettingError(f"HopeClassifier: patches of {(ph, pw)} do not tile an image of {(height, width)}.")
        if block_settings.get("inner_lr") is not None:
            raise SettingError(
                "HopeClassifier: inner_lr needs the loss of each token, which an image does not have; leave it out."
            )
        self.grid = (channels, height // ph, ph, width // pw, pw)
        self.embed = nn.Linear(channels * ph * pw, dim)
        self.place = nn.Parameter(torch.zeros(height // ph * (width // pw), dim))
        self.blocks = cast(Sequence[Block], nn.ModuleList(Hope(dim, **block_settings) for _ in range(layers)))
        self.head = nn.Linear(dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def for_stream(
        cls, experiment: Any, features: int, classes: int, image_shape: tuple[int, int] | None
    ) -> HopeClassifier:
        """The model of an experiment's settings, one row of an image a token. Raises SettingError without images."""
        if image_shape is None:
            raise SettingError("model=hope reads images row by row, and this stream has none. Take model=cms.")
        return cls(
            image_shape,
            classes,
            experiment.dim,
            heads=experiment.dim // HEAD_WIDTH if experiment.dim % HEAD_WIDTH == 0 else 1,
            chunk_size=ROWS_A_CHUNK,
            levels=experiment.periods,
            variant=experiment.variant,
            hidden=experiment.hidden,
        )

    def forward(self, images: Tensor, *, writes: bool = True) -> Tensor:
        check_type("writes", writes, bool)
        flat = images.flatten(1) if isinstance(images, Tensor) and images.dim() > 1 else images
        check_tensor("HopeClassifier: images, flattened,", flat, ("B", prod(self.grid)), self.place)
        patches = images.reshape(-1, *self.grid).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x, _ = self.run(self.embed(patches) + self.place, self.nothing, self.nothing, writes)
        return self.head(x.mean(1))
