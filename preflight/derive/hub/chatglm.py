"""ChatGLM2, ChatGLM3 and GLM-4-9B as their own code computes: positions first, one product for queries, keys and values.

Written from modeling_chatglm.py beside the weights of THUDM/chatglm2-6b and chatglm3-6b (copies in liucongg/ChatGLM-Finetuning
a137ad63 and hpcaitech/ColossalAI): what is made and kept, tensor by tensor, is what that code makes and keeps.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast


class ChatGLMConfig(PreTrainedConfig):
    """The fields of configuration_chatglm.py that decide a parameter or a byte, as the published models have them."""

    model_type = "chatglm"
    attribute_map: ClassVar[dict[str, str]] = {
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "intermediate_size": "ffn_hidden_size",
        "num_key_value_heads": "multi_query_group_num",
        "head_dim": "kv_channels",
    }

    num_layers: int = 28
    padded_vocab_size: int = 65024
    hidden_size: int = 4096
    ffn_hidden_size: int = 13696
    kv_channels: int = 128
    num_attention_heads: int = 32
    multi_query_group_num: int = 2
    add_qkv_bias: bool = True
    add_bias_linear: bool = False
    multi_query_attention: bool = True
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    layernorm_epsilon: float = 1e-5
    tie_word_embeddings: bool = False


class RMSNorm(nn.Module):
    """Normalise in fp32, and scale in the dtype that comes of it."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: Any) -> Any:
        """Return the normalised states in their own dtype."""
        variance = hidden.to(torch.float32).pow(2).mean(-1, keepdim=True)
        normal = hidden * torch.rsqrt(variance + self.eps)
        return (self.weight * normal).to(hidden.dtype)


def rotated(states: Any, table: Any) -> Any:
    """Return states [length, batch, heads, size] whose first half is turned in pairs."""
    length, _, heads, _ = states.shape
    width = table.shape[-2] * 2
    turned, rest = states[..., :width], states[..., width:]
    pairs = turned.reshape(length, -1, heads, width // 2, 2)
    table = table[:length].view(length, -1, 1, width // 2, 2)
    cos, sin = table[..., 0], table[..., 1]
    both = torch.stack(
        [
            pairs[..., 0] * cos - pairs[..., 1] * sin,
            pairs[..., 1] * cos + pairs[..., 0] * sin,
        ],
        -1,
    )
    return torch.cat((both.flatten(3), rest), dim=-1)


class SelfAttention(nn.Module):
    """Attention whose keys and values are copied for every head before torch's kernel takes them."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.heads, self.size = config.num_attention_heads, config.kv_channels
        self.groups = config.multi_query_group_num if config.multi_query_attention else self.heads
        inner = self.heads * self.size
        self.widths = [inner, self.groups * self.size, self.groups * self.size]
        bias = config.add_qkv_bias or config.add_bias_linear
        self.query_key_value = nn.Linear(config.hidden_size, sum(self.widths), bias=bias)
        self.dense = nn.Linear(inner, config.hidden_size, bias=config.add_bias_linear)
        self.attention_dropout = config.attention_dropout

    def forward(self, hidden: Any, mask: Any, table: Any) -> Any:
        """Return what every position reads, [length, batch, hidden]."""
        mixed = self.query_key_value(hidden)
        query, key, value = (
            part.view(*part.shape[:-1], -1, self.size) for part in mixed.split(self.widths, dim=-1)
        )
        query, key = rotated(query, table), rotated(key, table)
        key, value = (self._for_every_head(part) for part in (key, value))
        query, key, value = (part.permute(1, 2, 0, 3) for part in (query, key, value))
        if mask is None:
            read = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            read = functional.scaled_dot_product_attention(query, key, value, ~mask)
        read = read.permute(2, 0, 1, 3)
        return self.dense(read.reshape(*read.shape[:2], -1))

    def _for_every_head(self, part: Any) -> Any:
        wide = part.unsqueeze(-2).expand(-1, -1, -1, self.heads // self.groups, -1)
        return wide.contiguous().view(*part.shape[:2], self.heads, self.size)


class MLP(nn.Module):
    """A gated MLP with one product for both of its halves."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        bias, wide = config.add_bias_linear, config.ffn_hidden_size
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * wide, bias=bias)
        self.dense_4h_to_h = nn.Linear(wide, config.hidden_size, bias=bias)

    def forward(self, hidden: Any) -> Any:
        """Return the states through the gate."""
        gate, up = torch.chunk(self.dense_h_to_4h(hidden), 2, dim=-1)
        return self.dense_4h_to_h(functional.silu(gate) * up)


class GLMBlock(GradientCheckpointingLayer):
    """One layer."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.self_attention = SelfAttention(config)
        self.hidden_dropout = config.hidden_dropout
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(self, hidden: Any, mask: Any, table: Any) -> Any:
        """Return the stream behind this layer."""
        read = self.self_attention(self.input_layernorm(hidden), mask, table)
        stream = hidden + self._dropped(read)
        made = self.mlp(self.post_attention_layernorm(stream))
        return stream + self._dropped(made)

    def _dropped(self, states: Any) -> Any:
        return functional.dropout(states, p=self.hidden_dropout, training=self.training)


class GLMTransformer(nn.Module):
    """The layers and the norm behind them."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([GLMBlock(config) for _ in range(config.num_layers)])
        self.final_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)


class Embedding(nn.Module):
    """The table of words."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, config.hidden_size)


class ChatGLMModel(nn.Module):
    """Everything up to the logits."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.encoder = GLMTransformer(config)
        self.output_layer = nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False)
        self.rotary_dim = config.kv_channels // 2

    def forward(self, ids: Any, padding: Any) -> Any:
        """Return the last states, [length, batch, hidden]."""
        stream = self.embedding.word_embeddings(ids).transpose(0, 1).contiguous()
        mask = None
        if padding is not None and not padding.all():
            mask = _mask(padding)
        table = self._table(ids.shape[1], stream)
        for layer in self.encoder.layers:
            stream = layer(stream, mask, table)
        return self.encoder.final_layernorm(stream)

    def _table(self, length: int, stream: Any) -> Any:
        places = torch.arange(0, self.rotary_dim, 2, dtype=torch.float, device=stream.device)
        turns = torch.outer(
            torch.arange(length, dtype=torch.float, device=stream.device),
            1.0 / (10000 ** (places / self.rotary_dim)),
        )
        table = torch.stack([torch.cos(turns), torch.sin(turns)], dim=-1)
        dtype = self.output_layer.weight.dtype
        table = table if dtype == torch.float32 else table.to(dtype)
        return table[None].transpose(0, 1).contiguous()


def _mask(padding: Any) -> Any:
    """Return where nothing may be read: what comes later, and what is padded."""
    batch, length = padding.shape
    full = torch.ones(batch, length, length, device=padding.device).tril_()
    full = full * padding.unsqueeze(1)
    full -= padding.unsqueeze(-1) - 1
    return (full < 0.5).bool().unsqueeze_(1)


class ChatGLMForCausalLM(PreTrainedModel, GenerationMixin):
    """The model with its loss (the hub's name of it is ChatGLMForConditionalGeneration)."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["GLMBlock"]

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMModel(config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """Return the table of words."""
        return self.transformer.embedding.word_embeddings

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return self.transformer.output_layer

    def forward(
        self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **_: Any
    ) -> CausalLMOutputWithPast:
        """Return logits, and the loss of every next word in fp32."""
        hidden = self.transformer(input_ids, attention_mask)
        # handed over, so that 16-bit logits are gone where fp32 ones take their name
        return with_loss(self.transformer.output_layer(hidden).transpose(0, 1).contiguous(), labels)


def with_loss(logits: Any, labels: Any) -> CausalLMOutputWithPast:
    """Return the loss of every next word in fp32, and it and the logits in their dtype.

    The hub's copy of the logits is without the last position; forms have no size of their own for that.
    """
    loss = None
    if labels is not None:
        dtype = logits.dtype
        logits = logits.to(torch.float32)
        shifted = logits.clone() if len(logits) > 1 else logits  # one row is cut without a copy
        answers = functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
        loss = functional.cross_entropy(shifted.view(-1, shifted.shape[-1]), answers.view(-1))
        logits, loss = logits.to(dtype), loss.to(dtype)
    return CausalLMOutputWithPast(loss=loss, logits=logits)
