"""Asks NeMo Automodel what it makes of launches; run by hand where its wheel is unpacked.

`python tests/launchers/ask_automodel.py WHEEL` writes for every case of tests/configs/automodel/manifest.yaml what its
loader, its strategy, its scheduler and its matcher of modules say. WHEEL holds nemo-automodel 0.7.0 with torchao,
torchdata and kernels beside it, whose modules it imports.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from written_answers import fill, flat

CASES = Path(__file__).parents[2] / "tests" / "configs" / "automodel"
MODULES = [f"model.layers.0.self_attn.{name}_proj" for name in ("q", "k", "v", "o")] + [
    f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")
]


def ask(words: list[str], world: int) -> dict[str, Any]:
    """Return what Automodel says of a recipe's words on so many ranks."""
    loader = import_module("nemo_automodel.components.config._arg_parser")
    config = loader.parse_args_and_load_config(str(CASES / words[0]), words[1:])
    parsed = import_module("nemo_automodel.recipes._dist_utils").parse_distributed_section(
        config.distributed.to_dict()
    )
    sizes, strategy = parsed["parallelism_sizes"], parsed["strategy_config"]
    model_ranks = sizes.tp_size * sizes.cp_size * sizes.pp_size
    rows = config.step_scheduler.local_batch_size
    policy = strategy.mp_policy
    dtype_from_str = import_module("nemo_automodel.shared.utils").dtype_from_str
    said = config.get("model.torch_dtype", None)
    return {
        "model": config.get("model.pretrained_model_name_or_path", None),
        "strategy": type(strategy).__name__,
        "tp": sizes.tp_size,
        "cp": sizes.cp_size,
        "copies": sizes.dp_replicate_size or 1,
        "shards": world // sizes.tp_size // sizes.pp_size // (sizes.dp_replicate_size or 1),
        "defers": strategy.defer_fsdp_grad_sync,
        "reshards": strategy.reshard_after_forward,
        "checkpoints": parsed["activation_checkpointing"],
        "computes": str(policy.param_dtype),
        "reduces": str(policy.reduce_dtype),
        "stores": None if said is None else str(dtype_from_str(said)),
        "rows": rows,
        "steps": config.step_scheduler.global_batch_size // (rows * (world // model_ranks)),
        "packs": config.get("packed_sequence.packed_sequence_size", 0),
        "length": config.get("dataset.seq_len", None),
        "optimizer": config.optimizer._target_.__name__,
        "loss": config.loss_fn._target_.__name__,
        "adapter": adapter(config),
    }


def settled(argv: str) -> dict[str, Any]:
    """Return every value of a recipe as its words leave it."""
    words, _ = recipe_words(argv)
    loader = import_module("nemo_automodel.components.config._arg_parser")
    config = loader.parse_args_and_load_config(str(CASES / words[0]), words[1:])
    return flat(config.to_dict())


def adapter(config: Any) -> dict[str, Any] | None:
    """Return what the config of LoRA is made of, and which of a layer's projections its matcher takes."""
    section = config.get("peft", None)
    if section is None:
        return None
    made = section.instantiate()
    matcher = import_module("nemo_automodel.components._peft.module_matcher").ModuleMatcher(
        made.target_modules, made.exclude_modules, made.match_all_linear
    )
    linear = import_module("torch").nn.Linear(2, 2)
    taken = [name for name in MODULES if matcher.match(linear, name, name)]
    return {
        "rank": made.dim,
        "alpha": made.alpha,
        "dropout": made.dropout,
        "modules": [name.rpartition(".")[2] for name in taken],
    }


def recipe_words(argv: str) -> tuple[list[str], int]:
    """Return a case's file with the words that beat it, and its ranks."""
    words = argv.split()
    at = next(index for index, word in enumerate(words) if word.endswith(".yaml"))
    joined = [
        word.replace("=", " ") if "nproc" in word or "nnodes" in word else word for word in words
    ]
    flat = " ".join(joined).replace("_", "-").split()
    ranks = int(flat[flat.index("--nproc-per-node") + 1])
    nodes = int(flat[flat.index("--nnodes") + 1]) if "--nnodes" in flat else 1
    rest = [word for word in words[at + 1 :] if "nproc" not in word]
    rest = rest[1:] if rest and rest[0].isdecimal() else rest
    return [words[at], *rest], ranks * nodes


def main() -> None:
    """Write what Automodel says of every case."""
    sys.path.append(str(Path(sys.argv[1]).resolve()))
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    rows = [
        f" {json.dumps(name)}: {json.dumps(ask(*recipe_words(case['argv'])))}"
        for name, case in cases.items()
    ]
    (CASES / "asked.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    fill(CASES, lambda case, words: settled(words))


if __name__ == "__main__":
    main()
