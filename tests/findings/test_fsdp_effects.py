"""What accelerate, torch, bitsandbytes and transformers do under FSDP, on real gloo ranks: the effects that findings name."""

from __future__ import annotations

from importlib import metadata

import pytest

from preflight.versions.accelerate import KEEPS_OUTPUT_DTYPE

pytestmark = pytest.mark.launch

ROUNDING = 1e-5
"""Relative error of sums in another order, fp32."""


def test_fsdp2_checkpointing_with_dropout_computes_other_gradients(effects):
    """PF204: against the same batch without checkpointing; the trainer's own keeps the random state."""
    errors = effects["dropout_under_checkpointing"]
    wrong = {name for name, error in errors.items() if error > ROUNDING}

    assert wrong == {"fsdp2 fsdp 0.3"}
    assert errors["fsdp2 fsdp 0.3"] > 0.1


def test_peft_finds_no_adapter_in_wrapped_layers(effects):
    """PF223: two matrices each of two layers' two targets are what there is to save."""
    assert effects["saved_adapters"] == {
        "fsdp1 nobody": 0,
        "fsdp1 fsdp": 0,
        "fsdp1 trainer": 0,
        "fsdp2 nobody": 8,
        "fsdp2 fsdp": 0,
        "fsdp2 trainer": 8,
    }


def test_the_trainer_leaves_a_file_without_an_adapter(effects):
    """PF223: `save_model` after the state dict type was set to FULL_STATE_DICT, as PEFT's own examples do."""
    assert effects["adapters_in_files"] == {
        "fsdp1 nobody": 0,
        "fsdp1 fsdp": 0,
        "fsdp2 nobody": 8,
        "fsdp2 fsdp": 0,
    }


def test_a_class_that_the_model_lacks_is_refused(effects):
    """PF206: any module that is there may be wrapped, a part of a layer too."""
    said = effects["wrapping"]
    words = "Could not find the transformer layer class GPT2Block in the model."
    for version in (1, 2):
        assert said[f"fsdp{version} absent"] == f"ValueError: {words}"
        assert said[f"fsdp{version} layer"] == said[f"fsdp{version} part"] == ""


def test_fsdp2_checkpointing_needs_a_policy(effects):
    """PF207."""
    said = effects["wrapping"]

    assert said["fsdp2 checkpointing"] == "TypeError: 'NoneType' object is not callable"
    assert said["fsdp1 checkpointing"] == ""


def test_fsdp2_refuses_to_wrap_by_size(effects):
    """PF211: unless nothing at all is above the threshold."""
    said = effects["wrapping"]

    assert "fully_shard does not support containers" in said["fsdp2 size"]
    assert "ModuleList" in said["fsdp2 size"]
    assert said["fsdp2 size above all"] == said["fsdp1 size"] == ""


def test_shared_words_are_in_two_groups(effects):
    """PF224."""
    said = effects["shared_words"]
    for name in ("t5", "mt5", "umt5", "bart", "mbart", "pegasus"):
        assert said[f"fsdp1 {name}"] == ""
        assert "shared.weight' is shared with a parameter already managed" in said[f"fsdp2 {name}"]


def test_without_a_policy_the_model_is_one_unit(effects):
    """PF202: two layers and the root are three units; above the size of a layer their parent is one."""
    assert effects["one_unit"] == {
        "layers": 3,
        "no policy": 1,
        "size 0": 1,
        "size above a layer": 2,
    }


def test_a_setting_of_the_other_version_changes_nothing(effects):
    """PF201: whether a layer keeps its parameters after the forward, and over how many of two ranks it is sharded."""
    found = effects["settings_of_the_other_version"]
    default = {"keeps": False, "over": 2}

    assert found["fsdp2 SHARD_GRAD_OP"] == found["fsdp2 HYBRID_SHARD"] == default
    assert found["fsdp2 NO_SHARD"] == found["fsdp1 reshard false"] == default
    assert found["fsdp2 keep"]["keeps"] and found["fsdp1 SHARD_GRAD_OP"]["keeps"]
    assert found["fsdp2 reshard"] == found["fsdp1 FULL_SHARD"] == default


def test_the_plugin_refuses_words_of_fsdp1(effects):
    """PF208, PF209."""
    said = effects["refused_words"]

    assert said["reshard word"] == "ValueError: invalid truth value full_shard"
    assert said["local 2"].startswith("ValueError: FSDP2 does not support LOCAL_STATE_DICT.")
    assert said["local 1"] == ""


def test_fsdp2_leaves_integer_storage_whole(effects):
    """PF403: the same bytes on every rank before and after `prepare`."""
    held = effects["packed_base_fsdp2"]

    assert held["uint8"] == held["uint8 whole"]
    assert held["bfloat16"] == held["bfloat16 whole"] // 2


def test_packed_bits_change_where_the_engine_casts_them(effects):
    """PF214: under bf16, what a layer computes with against what it was loaded with."""
    is_same = effects["packed_base_in_another_dtype"]

    assert is_same["fsdp1 bfloat16"] and is_same["fsdp2 bfloat16"]
    assert not is_same["fsdp1 float16"] and not is_same["fsdp2 float16"]


def test_fsdp1_flattens_one_dtype(effects):
    """PF215: fp32 adapters on a bf16 base."""
    words = "Must flatten tensors with uniform dtype but got torch.bfloat16 and torch.float32"
    said = effects["adapters_in_a_flat_parameter"]

    assert words in said["peft False, orig true, bfloat16"]
    assert said["peft True, orig true, bfloat16"] == said["peft False, orig true, float32"] == ""


def test_fsdp1_flattens_what_trains_apart(effects):
    """PF216."""
    said = effects["adapters_in_a_flat_parameter"]
    words = "Must flatten tensors with uniform `requires_grad` when `use_orig_params=False`"

    assert words in said["peft False, orig false, float32"]
    assert said["peft True, orig false, float32"] == ""


def test_bitsandbytes_steps_fsdp1_only(effects):
    """PF217."""
    said = effects["bitsandbytes_optimizers"]
    mixed = "got mixed torch.Tensor and DTensor"
    unknown = "does not have a sharding strategy registered"

    assert mixed in said["fsdp2 8bit"] and mixed in said["fsdp2 paged 8bit"]
    assert unknown in said["fsdp2 32bit"] and unknown in said["fsdp2 lion"]
    assert said["fsdp2 torch"] == ""
    assert not any(words for name, words in said.items() if name.startswith("fsdp1"))


def test_offload_under_fsdp1_drops_gradients_that_synchronise(effects):
    """PF218: against the same two micro steps without offload."""
    errors = effects["offload_and_accumulation"]
    wrong = {name for name, error in errors.items() if error > ROUNDING}

    assert wrong == {"fsdp1 offload true syncs True"}
    assert errors["fsdp1 offload true syncs True"] > 0.1


def test_gradients_wait_unsharded(effects):
    """PF221: all bytes on each of two ranks, half of them after a micro step that synchronises."""
    found = effects["unsharded_gradients"]
    for version in (1, 2):
        assert found[f"fsdp{version} waits"] == found["all"]
        assert found[f"fsdp{version} syncs"] == found["all"] // 2


def test_fsdp2_skips_the_first_fp16_step(effects):
    """PF222: with the scaler that accelerate makes; FSDP1 returns the loss in fp32, and so does FSDP2 since 1.16."""
    found = effects["half_precision"]
    casts = not KEEPS_OUTPUT_DTYPE.holds_in({"accelerate": metadata.version("accelerate")})

    assert found["fsdp2 loss"] == ("torch.float16" if casts else "torch.float32")
    assert found["fsdp2"] == ([0] if casts else [])
    assert found["fsdp1"] == []


def test_transformers_refuses_two_checkpointing_switches(effects):
    """PF203."""
    said = effects["trainer_under_fsdp"]

    assert "can't both be set to True" in said["two switches"]
    assert said["one switch"] == ""


def test_transformers_refuses_these_checkpoints(effects):
    """PF220."""
    said = effects["trainer_under_fsdp"]
    sharded = (
        "save_only_model option is not compatible with FSDP state dict type 'SHARDED_STATE_DICT'"
    )

    assert said["sharded 1"] == said["sharded 2"] == f"ValueError: {sharded}"
    assert said["plain"] == said["full"] == ""


def test_only_the_word_true_turns_fsdp_on(effects):
    """PF116: any other word leaves plain DDP."""
    kinds = effects["words_for_true"]

    assert kinds["true"] == kinds["True"] == "FSDP"
    assert kinds["1"] == kinds["yes"] == "MULTI_GPU"
