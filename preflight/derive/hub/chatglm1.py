"""ChatGLM-6B as its own code computes: scores of every head in fp32, and two rotations of half a head each.

Written from modeling_chatglm.py beside the weights of THUDM/chatglm-6b (a copy in liucongg/ChatGLM-Finetuning a137ad63).
Its config says `chatglm` too, as that of its successors does, which have no `inner_hidden_size`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from preflight.derive.hub.chatglm import with_loss


class ChatGLM1Config(PreTrainedConfig):
    """The fields of configuration_chatglm.py that decide a parameter or a byte, as the published model has them."""

    model_type = "chatglm1"
    attribute_map: ClassVar[dict[str, str]] = {
        "num_hidden_layers": "num_layers",
        "intermediate_size": "inner_hidden_size",
    }

    vocab_size: int = 130528
    hidden_size: int = 4096
    num_layers: int = 28
    num_attention_heads: int = 32
    inner_hidden_size: int = 16384
    layernorm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True


class Held(torch.autograd.Function):
    """Hold tensors until backward, as TorchScript's derivative of the rotation does, which saves what it need not."""

    @staticmethod
    def forward(ctx: Any, states: Any, *others: Any) -> Any:
        """Return the states as they are."""
        ctx.save_for_backward(*others)
        ctx.number = len(others)
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """Return the gradient as it is."""
        return gradient, *(None for _ in range(ctx.number))


def rotated(states: Any, cos: Any, sin: Any) -> Any:
    """Return states [length, batch, heads, size] turned by tables of [length, batch, 1, size]."""
    first, second = states.chunk(2, dim=-1)
    turned = -second
    both = torch.cat((turned, first), dim=-1)
    return Held.apply(states * cos + both * sin, turned.detach(), both.detach())


def gelu(states: Any) -> Any:
    """Return OpenAI's GELU, an operation after the other."""
    inner = 0.7978845608028654 * states * (1.0 + 0.044715 * states * states)
    return 0.5 * states * (1.0 + torch.tanh(inner))


class SelfAttention(nn.Module):
    """Attention with all of its scores."""

    def __init__(self, config: ChatGLM1Config, layer: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.scale = config.num_attention_heads, float(layer + 1)
        self.size = hidden // self.heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.dense = nn.Linear(hidden, hidden)
        half = self.size // 2
        places = torch.arange(0, half, 2, dtype=torch.float)
        self.register_buffer("inv_freq", (10000 ** (-places / half)).to(torch.get_default_dtype()))

    def forward(self, hidden: Any, mask: Any, places: Any) -> Any:
        """Return what every position reads, [length, batch, hidden]."""
        length, batch, _ = hidden.shape
        mixed = self.query_key_value(hidden).view(length, batch, self.heads, 3 * self.size)
        query, key, value = mixed.split(self.size, dim=-1)
        tables = self._tables(length, hidden)
        query, key = self._turned(query, key, tables, places)
        query = query / (math.sqrt(self.size) * self.scale)
        query, key, value = (
            part.reshape(length, batch * self.heads, self.size).transpose(0, 1)
            for part in (query, key, value)
        )
        zeros = torch.zeros(1, 1, 1, dtype=query.dtype, device=query.device)
        scores = torch.baddbmm(zeros, query, key.transpose(1, 2), beta=0.0)
        scores = scores.view(batch, self.heads, length, length).masked_fill_(mask, -10000.0)
        wide = scores.float() * self.scale
        shares = functional.softmax(wide, dim=-1).type(scores.dtype)
        del scores, wide
        read = torch.bmm(shares.view(batch * self.heads, length, length), value)
        read = read.view(batch, self.heads, length, self.size).permute(2, 0, 1, 3).contiguous()
        return self.dense(read.view(length, batch, -1))

    def _tables(self, length: int, hidden: Any) -> tuple[Any, Any]:
        """Return cosines and sines of every position; each layer keeps its own."""
        turn: Any = self.inv_freq
        places = torch.arange(length, device=hidden.device, dtype=turn.dtype)
        turns = torch.outer(places, torch.cat((turn, turn)))
        return turns.cos(), turns.sin()

    def _turned(self, query: Any, key: Any, tables: Any, places: Any) -> tuple[Any, Any]:
        queries, keys = query.chunk(2, dim=-1), key.chunk(2, dim=-1)
        for number, own in enumerate(places):
            cos, sin = (functional.embedding(own, table).unsqueeze(2) for table in tables)
            halves = rotated(queries[number], cos, sin), rotated(keys[number], cos, sin)
            queries = (*queries[:number], halves[0], *queries[number + 1 :])
            keys = (*keys[:number], halves[1], *keys[number + 1 :])
        return torch.concat(queries, dim=-1), torch.concat(keys, dim=-1)


class GLU(nn.Module):
    """An MLP without a gate, whatever its name."""

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Any) -> Any:
        """Return the states through the MLP."""
        return self.dense_4h_to_h(gelu(self.dense_h_to_4h(hidden)))


class GLMBlock(GradientCheckpointingLayer):
    """One layer, which adds what it makes to its normalised input."""

    def __init__(self, config: ChatGLM1Config, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layernorm_epsilon
        self.input_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.attention = SelfAttention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.mlp = GLU(config)
        self.alpha = math.sqrt(2 * 28)

    def forward(self, hidden: Any, mask: Any, places: Any) -> Any:
        """Return the stream behind this layer."""
        given = self.input_layernorm(hidden)
        stream = given * self.alpha + self.attention(given, mask, places)
        given = self.post_attention_layernorm(stream)
        return given * self.alpha + self.mlp(given)


class ChatGLM1Model(nn.Module):
    """Everything up to the last norm."""

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([GLMBlock(config, i) for i in range(config.num_layers)])
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)

    def forward(self, ids: Any) -> Any:
        """Return the last states, [length, batch, hidden]."""
        stream = self.word_embeddings(ids).transpose(0, 1)
        batch, length = ids.shape
        mask = torch.ones((batch, length, length), device=ids.device).tril_().unsqueeze_(1) < 0.5
        row = torch.arange(length, device=ids.device).unsqueeze(-1).expand(length, batch)
        places = (row.contiguous(), torch.zeros_like(row))
        for layer in self.layers:
            stream = layer(stream, mask, places)
        return self.final_layernorm(stream)


class ChatGLM1ForCausalLM(PreTrainedModel, GenerationMixin):
    """The model with its loss (the hub's name of it is ChatGLMForConditionalGeneration)."""

    config_class = ChatGLM1Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["GLMBlock"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.weight": "transformer.word_embeddings.weight"
    }

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__(config)
        self.transformer = ChatGLM1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """Return the table of words."""
        return self.transformer.word_embeddings

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return self.lm_head

    def forward(self, input_ids: Any, labels: Any = None, **_: Any) -> CausalLMOutputWithPast:
        """Return logits, and the loss of every next word in fp32."""
        hidden = self.transformer(input_ids)
        return with_loss(self.lm_head(hidden).permute(1, 0, 2).contiguous(), labels)
