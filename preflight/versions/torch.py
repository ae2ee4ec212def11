"""What changed in which release of torch."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "torch")

ZERO_GRAD_SETS_NONE = _since(
    "2.0",
    "torch.optim and Module.zero_grad free gradients; before, they fill them with zeros",
    "torch/optim/optimizer.py zero_grad, :1024 (2.13.0)",
    "2.13.0",
)
HAS_FOREACH = _since(
    "2.0",
    "torch.optim takes foreach for CUDA tensors by default",
    "torch/optim/optimizer.py _default_to_fused_or_foreach, :161 (2.13.0)",
    "2.13.0",
)
HAS_SDPA = _since(
    "2.0",
    "torch has scaled_dot_product_attention, which ChatGLM2's own code asks for",
    "modeling_chatglm.py of THUDM/chatglm2-6b: pytorch_major_version >= 2",
    "2.13.0",
)
SERVES_SDPA = _since(
    "2.1.1",
    "transformers takes SDPA; with an older torch every class runs eager",
    "transformers/utils/import_utils.py is_torch_sdpa_available, :271 (4.36.2)",
    "2.13.0",
)
WRAPPED_CHECKPOINTS_ARE_NOT_REENTRANT = _since(
    "2.2",
    "checkpoint_wrapper is not reentrant where nobody says",
    "torch/distributed/algorithms/_checkpoint/checkpoint_wrapper.py checkpoint_wrapper, :192 (2.1.0), :197 (2.2.0),"
    " :198 (2.13.0)",
    "2.13.0",
)
FUSES_SHARDED_ADAMW = _since(
    "2.4",
    "fused AdamW takes FSDP2's tensors and a gradient scaler together; on one GPU it is older",
    "run on gloo with a GradScaler over fully_shard's tensors (2.13.0)",
    "2.13.0",
)
REDUCES_ON_DEFAULT_STREAM = _since(
    "2.6",
    "the input of FSDP2's reduce-scatter is made on the default stream",
    "_fsdp_collectives.py foreach_reduce: :325 (2.5.1), :371 (2.6.0), :597 (2.13.0)",
    "2.13.0",
)
HAS_FULLY_SHARD = _since(
    "2.6", "fully_shard is public", "torch/distributed/fsdp/__init__.py:6 (2.13.0)", "2.13.0"
)
SHARDS_CONTEXT = _since(
    "2.7",
    "what accelerate's cp_size needs is there; ring attention itself is older",
    "read with accelerate 1.10.0; torch/distributed/tensor/experimental/_context_parallel (2.13.0)",
    "2.13.0",
)
IS_NEW_FOR_FUSED_ADAMW = _since(
    "2.8",
    "Trainer's default is the fused AdamW",
    "transformers/training_args.py, 4.54.1, :811 (5.24.0)",
    "2.13.0",
)
RENAMES_ALLOCATOR_VARIABLE = _since(
    "2.9",
    "PYTORCH_CUDA_ALLOC_CONF is PYTORCH_ALLOC_CONF; the old name is still read",
    "c10/core/AllocatorConfig.h:158 (2.13.0)",
    "2.13.0",
)
REFUSES_TWO_GROUPS = _since(
    "2.13",
    "fully_shard refuses a shared parameter that two of its groups have",
    "torch/distributed/fsdp/_fully_shard/_fsdp_state.py:217 _validate_no_duplicate_params (2.13.0);"
    " accelerate/utils/fsdp_utils.py:865 (1.15.0) names this release",
    "2.13.0",
)
