"""What the experiments of this folder share: a small Llama, an Accelerator as the launcher sets it up, and what a rank says."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, str(Path(__file__).parents[1] / "launches" / "worker"))

import accelerate.state  # noqa: E402
import accelerate.utils.dataclasses  # noqa: E402
import cpu_ranks  # noqa: E402

cpu_ranks.patch_state(accelerate.state)
cpu_ranks.patch_fsdp1_plugin(accelerate.utils.dataclasses)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "use_cache": False,
}
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}

Results = dict[str, object]
EXPERIMENTS: dict[str, Callable[[], Results]] = {}


def experiment(run: Callable[[], Results]) -> Callable[[], Results]:
    """Register an experiment under the name of its function."""
    EXPERIMENTS[run.__name__] = run
    return run


def refusal(run: Callable[[], object]) -> str:
    """Return what a library stops with, empty where it does not."""
    try:
        run()
    except Exception as error:  # whatever it stops with is the measurement
        return f"{type(error).__name__}: {error}"
    return ""


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a tensor."""
    tensor = getattr(tensor, "ds_tensor", tensor)
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def local_bytes(tensors) -> int:
    return sum(local(t).numel() * local(t).element_size() for t in tensors)


def model_of(dtype: torch.dtype = torch.float32, **sizes: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes})).to(dtype).train()


def with_lora(model: torch.nn.Module, **settings: object) -> torch.nn.Module:
    import peft

    return peft.get_peft_model(model, peft.LoraConfig(**{**LORA, **settings}))


def clean() -> None:
    """Forget the Accelerator before this one and everything that it was told."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        del os.environ[name]


def start(version: int | None = 2, precision: str = "no", **fsdp: object) -> Accelerator:
    """Return an Accelerator with the variables that `accelerate launch` exports; version None is plain DDP."""
    clean()
    export(version, precision, **fsdp)
    return Accelerator()


def export(version: int | None, precision: str = "no", **fsdp: object) -> None:
    """Set the variables that the launcher of an FSDP launch sets."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = precision
    if version is not None:
        settings = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", **fsdp}
        os.environ["ACCELERATE_USE_FSDP"] = "true"
        os.environ["FSDP_VERSION"] = str(version)
        for name, value in settings.items():
            os.environ[f"FSDP_{name.upper()}"] = str(value)


def prepared(
    accelerator: Accelerator, model: torch.nn.Module, optimizer: Callable | None = None
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    trained = [p for p in model.parameters() if p.requires_grad]
    made = torch.optim.SGD(trained, lr=0.1) if optimizer is None else optimizer(trained)
    return accelerator.prepare(model, made)


def backward(accelerator: Accelerator, model: torch.nn.Module, step: int = 0) -> None:
    """Run a micro step on a batch of this rank's own."""
    generator = torch.Generator().manual_seed(100 * step + dist.get_rank())
    ids = torch.randint(0, SIZES["vocab_size"], (2, 16), generator=generator)
    torch.manual_seed(7 + step)
    accelerator.backward(model(input_ids=ids, labels=ids).loss)


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """Return this rank's part of all gradients, as one vector."""
    found = [local(p.grad).flatten().float() for p in model.parameters() if p.grad is not None]
    return torch.cat(found)


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())
