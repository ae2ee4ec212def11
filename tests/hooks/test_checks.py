"""Checks fire on what they name, and only on that."""

from __future__ import annotations

import pytest
from some_plugins import plugins_of
from tiny_llama import TINY_LLAMA

from preflight.device import DeviceSpec
from preflight.launch import Adapter, BaseQuantization, LaunchCommand, LaunchPlan
from preflight.models import describe
from preflight.rewriting import read_launch
from preflight.units import GIB

H100 = DeviceSpec("H100", 79 * GIB, count=8, supports_bf16=True)
T4 = DeviceSpec("T4", 14 * GIB, count=1, supports_bf16=False)


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_", "read_")


def ids(plugins, plan, device=H100, **config):
    model = describe({**TINY_LLAMA, **config}, "tiny", "test")
    found = plugins.collect("preflight_findings", plan=plan, model=model, device=device)
    return sorted(finding.id for _, finding in found)


def read(plugins, tmp_path, yaml: str, *arguments: str) -> LaunchPlan:
    (tmp_path / "launch.yaml").write_text(yaml)
    argv = ("accelerate", "launch", "--config_file", "launch.yaml", "train.py", *arguments)
    return plugins.first("preflight_read_launch", command=LaunchCommand(argv, {}, str(tmp_path)))


FSDP2 = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_machines: 1
num_processes: 8
fsdp_config:
  fsdp_version: {version}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_activation_checkpointing: true
"""


@pytest.mark.parametrize(
    ("version", "dropout", "expected"),
    [(2, 0.1, ["PF204"]), (2, 0.0, []), (1, 0.1, [])],
)
def test_dropout_under_fsdp2_checkpointing_is_an_error(
    plugins, tmp_path, version, dropout, expected
):
    """FSDP1 keeps the random state, and without dropout there is none to keep."""
    plan = read(plugins, tmp_path, FSDP2.format(version=version))

    assert ids(plugins, plan, attention_dropout=dropout) == expected


@pytest.mark.parametrize(
    ("version", "is_wrapped", "peft", "expected"),
    [
        (2, True, "0.21.2", ["PF223"]),
        (2, True, "0.20.0", []),
        (2, False, "0.21.2", []),
        (1, False, "0.21.2", ["PF223"]),
        (1, True, "0.20.0", []),
    ],
)
def test_an_adapter_that_is_saved_empty_is_an_error(
    plugins, tmp_path, version, is_wrapped, peft, expected
):
    """Without wrapped layers, or with a PEFT that matches the names of tensors, it is saved."""
    yaml = FSDP2.format(version=version).replace(
        "checkpointing: true", f"checkpointing: {is_wrapped}"
    )
    plan = read(plugins, tmp_path, yaml)
    plan = plan.with_edits(
        {"adapter": Adapter("lora", 16), "versions": {**plan.versions, "peft": peft}}
    )

    assert ids(plugins, plan) == expected


def test_bf16_needs_a_device_that_has_it(plugins):
    """A T4 trains in fp16."""
    plan = LaunchPlan(mixed_precision="bf16", load_dtype="fp32")

    assert ids(plugins, plan, T4) == ["PF401"]
    assert ids(plugins, plan, H100) == []


def test_flash_attention_needs_a_device_and_heads_it_can_take(plugins):
    """flash-attn's own kernels look at both when they run; sdpa has another kernel for either."""
    v100 = DeviceSpec("V100", 31 * GIB, count=8, compute_capability=(7, 0), vendor="NVIDIA")
    a100 = DeviceSpec("A100", 79 * GIB, count=8, compute_capability=(8, 0), vendor="NVIDIA")
    mi250 = DeviceSpec("MI250", 63 * GIB, count=8, vendor="AMD")
    flash = LaunchPlan(attention="flash_attention_2", load_dtype="bf16")
    sdpa = LaunchPlan(attention="sdpa", load_dtype="bf16")

    assert ids(plugins, flash, v100) == ["PF410"]
    assert ids(plugins, flash, a100) == ids(plugins, flash, mi250) == ids(plugins, sdpa, v100) == []
    assert ids(plugins, flash, a100, head_dim=512) == ["PF410"]


def test_fp16_weights_do_not_train_under_fp16(plugins):
    """The gradient scaler wants fp32 gradients."""
    assert ids(plugins, LaunchPlan(mixed_precision="fp16", load_dtype="fp16")) == ["PF402"]
    assert ids(plugins, LaunchPlan(mixed_precision="fp16", load_dtype="fp32")) == []


def test_ranks_of_a_node_need_a_device_each(plugins):
    """Only where a driver said how many there are."""
    plan = LaunchPlan(engine="ddp", world_size=16, num_nodes=1, load_dtype="fp32")

    assert ids(plugins, plan) == ["PF119"]
    assert ids(plugins, plan, DeviceSpec("H100", 79 * GIB)) == []
    assert ids(plugins, LaunchPlan(engine="ddp", world_size=16, num_nodes=2)) == []


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("torchrun --nproc-per-node 16 train.py", "--nproc-per-node 8,"),
        ("deepspeed --num_gpus 16 train.py", "--num_gpus 8,"),
        ("accelerate launch --multi_gpu --num_processes 16 train.py", "--num_processes 8,"),
        ("srun -N1 torchrun --nproc-per-node 16 train.py", None),
    ],
)
def test_too_many_ranks_are_told_in_the_words_of_the_launcher(plugins, words, fix):
    """Behind srun the devices of this machine say nothing."""
    plan = read_launch(LaunchCommand(tuple(words.split()), {}, "/srv/job"), plugins)
    items = plugins.collect("preflight_findings", plan=plan, model=None, device=H100)
    fixes = [finding.fix for _, finding in items if finding.id == "PF119"]

    assert len(fixes) == (fix is not None)
    assert all(text.startswith(fix) for text in fixes)


@pytest.mark.parametrize(
    ("words", "env", "expected"),
    [
        ("torchrun --nproc-per-node 4 train.py", {"CUDA_VISIBLE_DEVICES": "0,1"}, ["PF119"]),
        ("torchrun --nproc-per-node 2 train.py", {"CUDA_VISIBLE_DEVICES": "0,1"}, []),
        ("torchrun --nproc-per-node 2 train.py", {"CUDA_VISIBLE_DEVICES": ""}, []),
        ("srun -N1 torchrun --nproc-per-node 4 train.py", {"CUDA_VISIBLE_DEVICES": "0"}, []),
        ("accelerate launch --multi_gpu --gpu_ids 0,1 --num_processes 4 train.py", {}, ["PF119"]),
        ("accelerate launch --multi_gpu --gpu_ids all --num_processes 4 train.py", {}, []),
    ],
)
def test_the_launch_itself_says_how_many_devices_its_ranks_see(plugins, words, env, expected):
    """Without a driver too; none at all is a launch on CPUs."""
    plan = read_launch(LaunchCommand(tuple(words.split()), env, "/srv/job"), plugins)
    items = plugins.collect("preflight_findings", plan=plan, model=None, device=None)

    assert [finding.id for _, finding in items if finding.id == "PF119"] == expected


@pytest.mark.parametrize(
    ("slots", "expected"), [("a slots=8\nb slots=8\n", []), ("a slots=8\nb slots=4\n", ["PF139"])]
)
def test_nodes_with_different_numbers_of_ranks_are_told(plugins, tmp_path, slots, expected):
    (tmp_path / "hostfile").write_text(slots)
    words = ("deepspeed", "--hostfile", "hostfile", "train.py")
    plan = read_launch(LaunchCommand(words, {}, str(tmp_path)), plugins)
    items = plugins.collect("preflight_findings", plan=plan, model=None, device=None)

    assert [finding.id for _, finding in items if finding.id == "PF139"] == expected


def test_a_base_that_sharding_does_not_reach_is_named(plugins):
    """uint8 storage under FSDP2, any frozen base under ZeRO-1 and ZeRO-2."""
    adapter = Adapter(targets="all-linear")
    packed = BaseQuantization("nf4", storage_dtype=None)
    shared = {"world_size": 8, "shard_degree": 8, "adapter": adapter}

    assert ids(plugins, LaunchPlan(engine="fsdp2", base_quantization=packed, **shared)) == ["PF403"]
    floating = BaseQuantization("nf4", storage_dtype="bf16")
    assert ids(plugins, LaunchPlan(engine="fsdp2", base_quantization=floating, **shared)) == []
    assert ids(plugins, LaunchPlan(engine="zero2", **shared)) == ["PF404"]


def test_peft_wants_targets_where_it_has_no_default(plugins):
    """Llama has defaults; Phi-3 has none."""
    adapter = Adapter(targets=None)

    assert ids(plugins, LaunchPlan(adapter=adapter)) == []
    phi3 = {"model_type": "phi3", "num_key_value_heads": 4}
    assert ids(plugins, LaunchPlan(adapter=adapter), **phi3) == ["PF405"]


@pytest.mark.parametrize(
    ("peft", "targets", "expected"),
    [
        ("0.19.1", "all-linear", ["PF423"]),
        ("0.19.1", ("q_proj", "v_proj"), []),
        ("0.20.0", "all-linear", []),
        ("0.18.1", "all-linear", ["PF424"]),
    ],
)
def test_peft_019_takes_all_linear_for_letters(plugins, peft, targets, expected):
    """`Target modules {'l', 'r', '-', ...} not found in the base model`, on 0.19.1 with transformers 5.11.0."""
    plan = LaunchPlan(
        adapter=Adapter("lora", 8, 16, 0.0, targets),
        versions={"peft": peft, "transformers": "5.11.0"},
    )
    mixture = {"model_type": "mixtral", "num_local_experts": 4, "num_key_value_heads": 4}

    assert ids(plugins, plan, **mixture) == expected


@pytest.mark.parametrize(("name", "expected"), [("w1", []), ("up_proj", ["PF422"])])
def test_an_experts_linear_layer_is_in_the_model_before_experts_are_fused(plugins, name, expected):
    plan = LaunchPlan(
        adapter=Adapter("lora", 8, 16, 0.0, ("q_proj", name)), versions={"transformers": "4.57.1"}
    )
    mixture = {"model_type": "mixtral", "num_local_experts": 4, "num_key_value_heads": 4}

    assert ids(plugins, plan, **mixture) == expected
