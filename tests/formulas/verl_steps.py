"""Take log-probabilities with the actor of a verl release on the CPU, and print a row of what was alive, for verl_steps.jsonl.

Run in an environment with that verl and what it imports, without a GPU, ray or flash-attn:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/verl_steps.py >> ROOT/tests/formulas/verl_steps.jsonl

What runs on a GPU alone stands in: flash-attn's cross entropy and the compiled entropy keep and make what their kernels do,
and autocast casts what a softmax reads.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import torch
import transformers
from allocations import Allocations
from small_llama import LLAMA
from transformers import AutoConfig, AutoModelForCausalLM

CONFIG = {**LLAMA, "vocab_size": 8192}
CASES: dict[str, dict] = {
    "packed": {},
    "packed, entropy": {"entropy": True},
    "padded": {"packed": False, "rows": 2},
    "padded, entropy": {"packed": False, "rows": 2, "entropy": True},
    "packed, checkpointed": {"checkpointing": True},
    "packed, not compiled": {"compiled": False},
    "packed, entropy, not compiled": {"entropy": True, "compiled": False},
}
PROMPT, ANSWER = 128, 384
ABSENT = (
    "ray", "ray.actor", "ray.exceptions", "ray.experimental", "ray.experimental.state", "ray.experimental.state.api",
    "ray.util", "ray.util.placement_group", "ray.util.scheduling_strategies", "PIL", "PIL.Image", "pkg_resources",
)  # fmt: skip
"""Modules that verl imports and log-probabilities do not need."""


class CrossEntropy(torch.autograd.Function):
    """flash_attn/ops/triton/cross_entropy.py CrossEntropyLoss (2.8.3): a loss and a log-sum per row, and the gradient in place."""

    @staticmethod
    def forward(ctx, logits, labels, inplace_backward):
        losses = torch.zeros(len(logits), dtype=torch.float32)
        ctx.save_for_backward(logits, torch.zeros_like(losses), labels)
        ctx.inplace_backward = inplace_backward
        return losses

    @staticmethod
    def backward(ctx, given):
        logits = ctx.saved_tensors[0]
        return logits if ctx.inplace_backward else torch.empty_like(logits), None, None


class CompiledEntropy(torch.autograd.Function):
    """What Inductor makes of entropy_from_logits: rows of sums forward, the gradient alone backward, no copy in fp32."""

    @staticmethod
    def forward(ctx, logits):
        ctx.save_for_backward(logits, torch.zeros(len(logits)), torch.zeros(len(logits)))
        return torch.zeros(len(logits))

    @staticmethod
    def backward(ctx, given):
        return torch.empty_like(ctx.saved_tensors[0])


def _unpadded(hidden, mask):
    indices = torch.nonzero(mask.flatten(), as_tuple=False).flatten()
    lengths = torch.nn.functional.pad(torch.cumsum(mask.sum(-1), 0), (1, 0))
    return hidden.flatten(0, 1)[indices], indices, lengths, int(mask.sum(-1).max()), None


def _padded(hidden_states, indices, batch, seqlen):
    whole = torch.zeros(batch * seqlen, *hidden_states.shape[1:], dtype=hidden_states.dtype)
    whole = whole.index_copy(0, indices, hidden_states)
    return whole.unflatten(0, (batch, seqlen))


def _rearranged(tensor, pattern, **_):
    return tensor.flatten(0, 1)


def stand_ins() -> dict[str, ModuleType]:
    """Return modules that are there on a GPU alone, or that nothing here needs."""
    above, flash = ModuleType("flash_attn"), ModuleType("flash_attn.bert_padding")
    above.__spec__ = ModuleSpec("flash_attn", None)
    flash.unpad_input, flash.pad_input, flash.rearrange = _unpadded, _padded, _rearranged
    flash.index_first_axis = lambda tensor, indices: tensor[indices]
    modules: dict[str, ModuleType] = {
        name: MagicMock(__spec__=ModuleSpec(name, None))
        for name in ABSENT
        if name not in sys.modules
    }
    return {**modules, "flash_attn": above, "flash_attn.bert_padding": flash}


def model_of(case: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**CONFIG, pad_token_id=0, eos_token_id=1)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).train()
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def rows_of(case: dict) -> dict[str, torch.Tensor]:
    rows = case.get("rows", 1)
    words = torch.randint(2, 50, (rows, PROMPT + ANSWER))
    positions = torch.arange(PROMPT + ANSWER).expand(rows, -1)
    return {
        "input_ids": words, "attention_mask": torch.ones_like(words), "position_ids": positions,
        "responses": words[:, PROMPT:],
    }  # fmt: skip


def entropy_of(case: dict):
    """Return verl's own function, or what stands in for what is compiled of it."""
    if case.get("compiled", True):
        return CompiledEntropy.apply
    return import_module("verl.utils.torch_functional").entropy_from_logits


def of_actor(module: ModuleType, model: torch.nn.Module, case: dict, entropy: bool):
    """Return log-probabilities and entropy as the actor of verl to 0.7 takes them."""
    actor = SimpleNamespace(
        use_remove_padding=case.get("packed", True), use_fused_kernels=False, use_ulysses_sp=False, device_name="cpu",
        use_prefix_grouper=False, param_dtype=torch.bfloat16, actor_module=model,
        compute_entropy_from_logits=entropy_of(case),
        config=SimpleNamespace(entropy_checkpointing=False, get=lambda name, default=None: default),
    )  # fmt: skip
    takes = module.DataParallelPPOActor._forward_micro_batch
    asks = (
        {"calculate_entropy": entropy} if "calculate_entropy" in takes.__code__.co_varnames else {}
    )
    found = takes(actor, rows_of(case), temperature=1.0, **asks)
    if isinstance(found, dict):
        return found["log_probs"], found.get("entropys")
    return found[1], found[0]


def of_engine(module: ModuleType, model: torch.nn.Module, case: dict, entropy: bool):
    """Return log-probabilities and entropy as the engine of verl from 0.8 on takes them."""
    from tensordict import TensorDict
    from verl.utils import tensordict_utils

    rows, packed = rows_of(case), case.get("packed", True)
    nested = {
        name: torch.nested.as_nested_tensor(list(rows[name]), layout=torch.jagged)
        for name in ("input_ids", "position_ids")
    }
    batch = TensorDict(nested, batch_size=[len(rows["input_ids"])])
    given = {"use_remove_padding": packed, "calculate_entropy": entropy, "temperature": 1.0}
    tensordict_utils.assign_non_tensor(batch, **given)
    settings = SimpleNamespace(entropy_checkpointing=False, entropy_from_logits_with_chunking=False)
    engine = SimpleNamespace(
        use_ulysses_sp=False, engine_config=settings, module=model, pad_to_length=None,
        compute_entropy_from_logits=entropy_of(case), _get_packed_pad_size=lambda size: 0,
        _gather_and_unpad_packed=lambda tensor, size: tensor,
    )  # fmt: skip
    own = module.FSDPEngineWithLMHead
    inputs, outputs = own.prepare_model_inputs(engine, batch)
    found = own.prepare_model_outputs(
        engine, model(**inputs, use_cache=False), outputs, batch, None
    )
    values = {name: found[name].values() for name in ("log_probs", "entropy") if name in found}
    return values["log_probs"], values.get("entropy")


def counted(case: dict, module: ModuleType, take) -> dict[str, int]:
    """Return the most that is alive where the old policy is scored, in an update's forward, and in its backward."""
    model, allocations, entropy = model_of(case), Allocations(), case.get("entropy", False)
    softmax, logsumexp = torch.nn.functional.softmax, torch.logsumexp
    with (
        allocations,
        patch.object(torch.nn.functional, "softmax", lambda x, dim: softmax(x.float(), dim=dim)),
        patch.object(torch, "logsumexp", lambda x, dim: logsumexp(x.float(), dim=dim)),
    ):
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(tensor.data)
        for _ in range(2):
            model.zero_grad()
            allocations.mark("scoring")
            with torch.no_grad():
                take(module, model.eval(), case, True)
            allocations.mark("forward")
            log_probs, entropies = take(module, model.train(), case, entropy)
            loss = log_probs.mean()
            if entropies is not None:
                loss = loss - 0.001 * entropies.mean()
            del log_probs, entropies
            allocations.mark("backward")
            loss.backward()
            del loss
            allocations.mark("end")
    return {part: allocations.peaks[part] for part in ("scoring", "forward", "backward")}


def main() -> None:
    """Print a row for every case."""
    torch.set_num_threads(1)
    with patch.dict(sys.modules, stand_ins()):
        functions = import_module("verl.utils.torch_functional")
        try:
            module, take = import_module("verl.workers.actor.dp_actor"), of_actor
            module.__dict__.update(vars(sys.modules["flash_attn.bert_padding"]))
        except ModuleNotFoundError:
            module, take = import_module("verl.workers.engine.fsdp.transformer_impl"), of_engine
        functions.FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE = True
        functions.cross_entropy_loss = lambda logits, labels, inplace_backward=True: (
            CrossEntropy.apply(logits, labels, inplace_backward),
        )
        for name, case in CASES.items():
            row = {"verl": version("verl"), "transformers": transformers.__version__, "name": name}
            print(json.dumps({**row, "peaks": counted(case, module, take)}), flush=True)


if __name__ == "__main__":
    main()
