"""Run steps of torchtune's Llama 3.2 Vision with images on the CPU, and print a row of what was alive for each case.

Run in an environment with torchtune 0.6.1 and torchvision:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/tune_image_steps.py >> tune_images.jsonl
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from allocations import Allocations
from tune_teacher_steps import print_rows

CASES: dict[str, dict[str, Any]] = {
    "trained": {},
    "trained, kept": {"checkpointed": False},
    "trained, fp32": {"dtype": "fp32"},
    "trained, more text": {"length": 512},
    "trained, more tiles": {"images": 2, "grid": 6},
    "trained, a wide decoder": {"hidden": 512, "inner": 1536, "heads": 8},
    "trained, a wide tower": {"width": 320, "blocks": 10},
    "fused": {"encoder": False},
    "adapted": {"rank": 8},
    "adapted, kept": {"rank": 8, "checkpointed": False},
    "adapted, dropped out": {"rank": 8, "dropout": 0.1},
    "adapted, fp32": {"rank": 8, "dtype": "fp32"},
    "adapted, more text": {"rank": 8, "length": 512},
    "adapted, a wide tower": {"rank": 16, "width": 320, "blocks": 10},
}
COMMON = {
    "dtype": "bf16", "checkpointed": True, "encoder": True, "rank": 0, "dropout": 0.0, "rows": 2, "length": 128, "images": 1,
    "tiles": 4, "grid": 4, "hidden": 256, "inner": 768, "heads": 4, "key_heads": 2, "layers": 4, "interval": 2, "words": 1024,
    "width": 160, "tower_heads": 4, "blocks": 6, "behind": 2,
}  # fmt: skip
PATCH, SPECIAL, TAKEN = 14, 8, [0, 1, 2, 3, 4]
LORA = ["q_proj", "v_proj", "output_proj"]


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say."""
    return {**COMMON, **CASES[name]}


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes as a config.json says them; layers that attend to images are counted as layers there."""
    num_seeing = case["layers"] // case["interval"]
    every = case["interval"] + 1
    return {
        "model_type": "mllama",
        "text_config": {
            "model_type": "mllama_text_model",
            "vocab_size": case["words"],
            "hidden_size": case["hidden"],
            "intermediate_size": case["inner"],
            "num_hidden_layers": case["layers"] + num_seeing,
            "num_attention_heads": case["heads"],
            "num_key_value_heads": case["key_heads"],
            "cross_attention_layers": [every * n + case["interval"] - 1 for n in range(num_seeing)],
            "hidden_act": "silu",
        },
        "vision_config": {
            "model_type": "mllama_vision_model",
            "hidden_size": case["width"],
            "intermediate_size": 4 * case["width"],
            "num_hidden_layers": case["blocks"],
            "num_global_layers": case["behind"],
            "attention_heads": case["tower_heads"],
            "image_size": PATCH * case["grid"],
            "patch_size": PATCH,
            "max_num_tiles": case["tiles"],
            "intermediate_layers_indices": TAKEN,
            "vision_output_dim": case["width"] * (1 + len(TAKEN)),
        },
    }


def model_of(case: dict[str, Any]) -> Any:
    """Return torchtune's model with the parts of it that a recipe would train."""
    import torchtune.models.llama3_2_vision._component_builders as builders
    from torchtune import modules, training
    from torchtune.modules.model_fusion import DeepFusionModel
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    tower = {
        "patch_size": PATCH, "num_heads": case["tower_heads"], "clip_embed_dim": case["width"], "clip_num_layers": case["blocks"],
        "clip_hidden_states": TAKEN, "decoder_embed_dim": case["hidden"], "num_layers_projection": case["behind"],
        "tile_size": PATCH * case["grid"], "max_num_tiles": case["tiles"], "in_channels": 3,
    }  # fmt: skip
    text = {
        "vocab_size": case["words"], "num_layers": case["layers"], "fusion_interval": case["interval"], "num_special_tokens": SPECIAL,
        "num_heads": case["heads"], "num_kv_heads": case["key_heads"], "embed_dim": case["hidden"], "max_seq_len": 1024,
        "encoder_max_seq_len": 4096, "intermediate_dim": case["inner"],
    }  # fmt: skip
    with training.set_default_dtype({"bf16": torch.bfloat16, "fp32": torch.float32}[case["dtype"]]):
        if case["rank"]:
            lora = {
                "lora_attn_modules": LORA, "apply_lora_to_mlp": True, "apply_lora_to_output": False, "lora_rank": case["rank"],
                "lora_alpha": 16, "lora_dropout": case["dropout"],
            }  # fmt: skip
            encoder = builders.lora_llama3_2_vision_encoder(True, True, **lora, **tower)
            decoder = builders.lora_llama3_2_vision_decoder(False, True, **lora, **text)
        else:
            encoder = builders.llama3_2_vision_encoder(**tower)
            decoder = builders.llama3_2_vision_decoder(**text)
        model = DeepFusionModel(
            decoder=decoder,
            encoder=encoder,
            encoder_trainable=case["encoder"] and not case["rank"],
            fusion_trainable=not case["rank"],
        )
    if case["rank"]:
        set_trainable_params(model, get_adapter_params(model))
    if case["checkpointed"]:
        own = {modules.TransformerSelfAttentionLayer}
        training.set_activation_checkpointing(model, auto_wrap_policy=own)
    return model


def batch_of(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch as padded_collate_tiled_images_and_mask makes it."""
    rows, images, tiles, side = case["rows"], case["images"], case["tiles"], PATCH * case["grid"]
    tokens = torch.randint(0, case["words"], (rows, case["length"]))
    tokens[:, :images] = case["words"]
    ratios = torch.full((rows, images, 2), 2)
    seen = images * tiles * (case["grid"] ** 2 + 1)
    return {
        "tokens": tokens,
        "encoder_input": {
            "images": torch.randn(rows, images, tiles, 3, side, side).to(dtype),
            "aspect_ratio": ratios,
        },
        "encoder_mask": torch.ones(rows, case["length"], seen, dtype=torch.bool),
    }


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the most that was alive before the loss, in its backward, and at an optimizer's step, parameters among it."""
    model = model_of(case)
    batch = batch_of(case, next(model.parameters()).dtype)
    labels = torch.randint(0, case["words"], batch["tokens"].shape)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with Allocations() as seen:
        for tensor in model.parameters():
            seen.track(tensor)
        for tensor in (
            labels,
            batch["tokens"],
            batch["encoder_mask"],
            *batch["encoder_input"].values(),
        ):
            seen.track(tensor)
        for _ in range(2):
            seen.mark("forward")
            logits = model(**batch)
            gc.collect()
            seen.mark("backward")
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            del logits
            loss.backward()
            seen.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return {part: seen.peaks[part] for part in ("forward", "backward")}


if __name__ == "__main__":
    print_rows(CASES, lambda name: counted(case_of(name)))
