"""What a model is made of, as far as memory can tell: parameter tensors by unit, and the shapes of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property
from math import prod
from typing import Any

from preflight.values import dataclass

LINEAR = "linear"
EMBEDDING = "embedding"
NORM = "norm"
BIAS = "bias"
EXPERTS = "experts"
OTHER = "other"

MASKED_LM, CAUSAL_LM = "masked_lm", "causal_lm"
"""The objective whose head an encoder's table and costs are made with; its other heads are beside it."""
LARGEST_FLASH_HEAD = 256
"""Of the flash kernel (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, torch 2.13): wider heads keep other tensors."""
ALL_PARAMETERS = "(all parameters)"
"""Name of the units of a model that is counted and not laid out: what it takes has a lower bound, and no more."""


@dataclass(frozen=True)
class ParameterTensor:
    """One parameter: its name inside its unit, shape and kind."""

    name: str
    """`self_attn.q_proj.weight`, as `named_parameters()` gives it below the unit."""
    shape: tuple[int, ...]
    """Linear weights are (out_features, in_features), as torch stores them."""
    kind: str = LINEAR
    """linear, embedding, norm, bias, experts (fused 3-D stack), other (convolutions, gates, ...)."""
    gets_gradient: bool = True
    """False where the forward runs it without recording: it is trainable, and never trained."""
    stays_fp32: bool = False
    """True where transformers loads it in fp32 whatever was asked for (`_keep_in_fp32_modules_strict`)."""
    is_of_subclass: bool = False
    """True where its module is no torch Linear but a subclass of one."""
    is_read_bare: bool = False
    """True where its layer reads the weight past its module: an adapter on that has parameters, and no gradient."""

    @cached_property
    def num_params(self) -> int:
        return prod(self.shape)

    @property
    def module(self) -> str:
        """The last part of the module's name: `q_proj` of `self_attn.q_proj.weight`."""
        parts = self.name.split(".")
        return parts[-2] if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class LayerShape:
    """The sizes that decide what one decoder layer saves for its backward."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    """Of queries and keys."""
    intermediate_size: int
    """Dense MLP width; 0 in a layer that has only experts."""
    v_head_dim: int | None = None
    """Where values are narrower than keys (MLA); None = head_dim."""
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    attention_kind: str = "full"
    """full, sliding, linear, none, or cross: to images instead of the text."""
    sliding_window: int | None = None
    kind: str = ""
    """Its kind's name in the table that laid it out; empty where attention and experts tell."""

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


@dataclass(frozen=True)
class ModelUnit:
    """A module that repeats `count` times with the same tensors: a decoder layer kind, the embedding, the tail."""

    name: str
    """`model.layers.*`, `model.embed_tokens`, `model.norm`, `lm_head`."""
    role: str
    """embedding, layer, final_norm, lm_head, tower, projector, other."""
    tensors: tuple[ParameterTensor, ...]
    count: int = 1
    layer: LayerShape | None = None
    """Set where role is layer."""
    places: tuple[int, ...] = ()
    """Which layers of the model these are."""

    @cached_property
    def num_params(self) -> int:
        """Parameters of one instance."""
        return sum(tensor.num_params for tensor in self.tensors)


@dataclass(frozen=True)
class Tower:
    """The sizes that decide what a vision tower saves, and how what it sees becomes tokens."""

    kind: str
    """The file of its costs (preflight/formulas/costs/towers)."""
    depth: int
    """Blocks."""
    hidden_size: int
    num_heads: int
    intermediate_size: int
    patch_values: int
    """Numbers in a patch of pixels."""
    token_size: int
    """Of an image token: the decoder's hidden size, but for projectors that end elsewhere."""
    patches_per_token: int = 0
    """Of a tower that takes images of any size; 0 where it takes tiles of one size."""
    tile_rows: int = 0
    """Rows of the blocks' matrices for one tile: its patches, and a class token where there is one."""
    tile_patches: int = 0
    tile_tokens: int = 0
    """Image tokens that one tile becomes."""
    most_tiles: int = 1
    """Tiles of one image that become no more tokens than one of them, at most."""
    fewest_tokens: int = 0
    """Image tokens that a tile becomes at least, where it is padded; 0 where every tile becomes `tile_tokens`."""
    num_deep: int = 0
    """Layers whose features reach the decoder beside the last one's."""
    num_behind: int = 0
    """Blocks of a second stack, behind the first."""
    is_apart: bool = False
    """Whether its tokens are none of the sequence's: layers of their own attend to them, and no length bounds them."""


BY_FOLDER = "by the name of its folder alone, which is not here"
"""Evidence of a likeness that refuses nothing: the folder may hold anything."""


@dataclass(frozen=True)
class Likeness:
    """Another model whose shapes a model was given, and how it is known that they are the same."""

    model: str
    """The other one's id."""
    evidence: str
    """In words: `it has the same architecture and published parameter count`, `by its name alone`, ..."""
    is_guess: bool
    """Whether a rule or a name says so, and nobody looked at the model itself."""


@dataclass(frozen=True)
class ModelSpec:
    """A model's parameters and shapes, from its config alone."""

    name: str
    config: Mapping[str, Any]
    model_type: str
    """The decoder's own model_type: that of `text_config` for a vision-language model."""
    hidden_size: int
    vocab_size: int
    num_layers: int
    units: tuple[ModelUnit, ...]
    """Every parameter once; a tied lm_head appears in no unit."""
    tied: bool = False
    layer_classes: tuple[str, ...] = ()
    """The classes transformers lists in `_no_split_modules`: what FSDP wraps."""
    config_dtype: str | None = None
    """`dtype` / `torch_dtype` of the config: what transformers 5 loads by default."""
    dropouts: Mapping[str, float] = field(default_factory=dict)
    """Dropout probabilities in the config that are not zero."""
    is_decoder_lm: bool = True
    """False where no activation formula applies: types that nobody traced, vision or speech models."""
    source: str = ""
    """Where the config was read: a path, the registry, the hub cache."""
    like: Likeness | None = None
    """Set where the shapes are those of another model."""
    stored_dtypes: tuple[str, ...] = ()
    """What the weights may be stored in, the likeliest first, where nobody says; empty where `config_dtype` is certain."""
    num_params_override: int | None = None
    """An exact published total, where the units do not list every tensor."""
    tower: Tower | None = None
    """Set where it has a vision tower whose costs are known."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else activations depend on; the keys are listed in preflight/models/families/layout.py."""

    @cached_property
    def is_counted_alone(self) -> bool:
        """Whether the number of parameters is all that is known of them."""
        return all(unit.name == ALL_PARAMETERS for unit in self.units)

    @property
    def is_encoder(self) -> bool:
        """Whether it reads in both directions, and has the head that its objective names (preflight/formulas/layers/heads.py)."""
        return "heads" in self.facts

    @property
    def has_both_stacks(self) -> bool:
        """Whether it is an encoder with a decoder, which is given an answer of another length."""
        return bool(self.facts.get("both_stacks"))

    @property
    def has_towers(self) -> bool:
        """Whether it takes images or audio beside text, by its type and the sections of its config."""
        return bool(self.facts.get("whole")) or any(
            isinstance(value, Mapping) and name.startswith(("vision", "audio"))
            for name, value in self.config.items()
        )

    @cached_property
    def num_params(self) -> int:
        """Unique parameters, tied ones once."""
        if self.num_params_override is not None:
            return self.num_params_override
        return sum(unit.num_params * unit.count for unit in self.units)

    @cached_property
    def embedding_params(self) -> int:
        return sum(u.num_params * u.count for u in self.units if u.role == "embedding")

    @cached_property
    def head_params(self) -> int:
        """Parameters of an untied lm_head; 0 when tied."""
        return sum(u.num_params * u.count for u in self.units if u.role == "lm_head")

    @cached_property
    def layers(self) -> tuple[ModelUnit, ...]:
        """The decoder layer kinds."""
        return tuple(unit for unit in self.units if unit.role == "layer")

    @cached_property
    def largest_layer(self) -> ModelUnit | None:
        """That kind of them with most parameters, among those that are run."""
        return max(self.layers, key=lambda u: (u.layer is not None, u.num_params), default=None)

    def tensors(self) -> Iterator[tuple[ModelUnit, ParameterTensor]]:
        """Yield every tensor kind with the unit that repeats it `count` times."""
        for unit in self.units:
            for tensor in unit.tensors:
                yield unit, tensor
