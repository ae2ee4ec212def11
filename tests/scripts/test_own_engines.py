"""The engine and the ranks that a script sets up itself decide what each device holds."""

from __future__ import annotations

import json

import pytest
from accelerate.utils import DeepSpeedPlugin
from launch_of_script import opens, plan_of

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

LOOP = """\
import argparse, os
import deepspeed
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from functools import partial
from torch.distributed._composable.fsdp import fully_shard
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel as FSDP, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel as DDP
from transformers import AutoModelForCausalLM

def main({parameters}):
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
    {wrapping}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for batch in []:
        model(**batch).loss.backward()

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--world_size", type=int, default=-1)
    parser.add_argument("--kind")
    parser.add_argument("--offload", action="store_true")
    args = parser.parse_args()
    {start}
"""
TORCHRUN = "torchrun --nproc_per_node 8 loop.py"


def loop(wrapping: str, start: str = "main(args)", parameters: str = "args") -> dict[str, str]:
    indented = wrapping.replace("\n", "\n    ")
    text = LOOP.replace("{wrapping}", indented).replace("{start}", start)
    return {"loop.py": text.replace("{parameters}", parameters)}


@pytest.mark.parametrize(
    "wrapping, engine, reshards, policy, degree",
    [
        ("model = FSDP(model, auto_wrap_policy=policy)", "fsdp1", True, "transformer", 8),
        ("model = FSDP(model)", "fsdp1", True, "none", 8),
        ("model = FSDP(model, auto_wrap_policy=policy, sharding_strategy=ShardingStrategy.SHARD_GRAD_OP)", "fsdp1", False, "transformer", 8),
        ("for layer in model.layers:\n    fully_shard(layer)\nfully_shard(model)", "fsdp2", True, "transformer", 8),
        ("fully_shard(model)", "fsdp2", True, "none", 8),
        ("for layer in model.layers:\n    fully_shard(layer, reshard_after_forward=False)\nfully_shard(model)", "fsdp2", False, "transformer", 8),
        ("for i, layer in enumerate(model.layers):\n    fully_shard(layer, reshard_after_forward=i < len(model.layers) - 1)\nfully_shard(model)", "fsdp2", True, "transformer", 8),
        ("model = DDP(model, device_ids=[0])", "ddp", None, None, 1),
    ],
)  # fmt: skip
def test_a_wrapper_around_the_model_is_the_engine(
    wrapping, engine, reshards, policy, degree, tmp_path
):
    plan = plan_of(tmp_path, TORCHRUN, loop(wrapping))

    assert (plan.engine, plan.world_size, plan.shard_degree) == (engine, 8, degree)
    assert "engine" not in opens(plan)
    if engine != "ddp":
        assert plan.reshard_after_forward is reshards
        assert plan.wrap_policy == policy


@pytest.mark.parametrize(
    ("wrapping", "is_open"),
    [
        ("for layer in model.layers:\n    fully_shard(layer, reshard_after_forward=read())\nfully_shard(model)", "reshard_after_forward"),
        ("for layer in model.layers:\n    fully_shard(layer, **read())\nfully_shard(model)", "reshard_after_forward"),
        ("fully_shard(build(model))", "wrap_policy"),
        ("model = FSDP(model, auto_wrap_policy=partial(size_based_auto_wrap_policy, min_num_params=10**12))", "wrap_policy"),
        ("policy = partial(size_based_auto_wrap_policy)\nmodel = FSDP(model, auto_wrap_policy=policy)", "wrap_policy"),
    ],
)  # fmt: skip
def test_units_that_only_running_tells_are_open(wrapping, is_open, tmp_path):
    assert is_open in opens(plan_of(tmp_path, TORCHRUN, loop(wrapping)))


@pytest.mark.parametrize(
    ("wrapping", "is_whole"),
    [
        ("for layer in model.layers:\n    fully_shard(layer)", True),
        ("fully_shard(model.layers[0])", True),
        (
            "for layer in model.layers:\n    fully_shard(layer)\nfully_shard([model.norm, model.lm_head])",
            True,
        ),
        (
            "for layer in model.layers:\n    fully_shard(layer)\nfully_shard(model, ignored_params={model.w})",
            True,
        ),
        ("model = FSDP(model, ignored_modules=[model.lm_head])", True),
        ("plugin = FullyShardedDataParallelPlugin(ignored_modules=[model.lm_head])", True),
        ("for layer in model.layers:\n    fully_shard(layer)\nfully_shard(model)", False),
        ("fully_shard(build(model))", False),
        ("model = FSDP(model, ignored_modules=None)", False),
        ("model = FSDP(model, ignored_states=[])", False),
    ],
)
def test_what_no_unit_has_is_whole_on_every_rank(wrapping, is_whole, tmp_path):
    """Whatever is left over is no share of the model, and nothing prices it."""
    plan = plan_of(tmp_path, TORCHRUN, loop(wrapping))

    unpriced = {each.unpriced for each in plan.notices}
    assert ("parameters that FSDP leaves whole" in unpriced) is is_whole


@pytest.mark.parametrize(
    ("wrapping", "is_whole"),
    [
        ("model = FSDP(model)\n    with model.no_sync(): model(**batch).loss.backward()", True),
        ("fully_shard(model)\n    model.set_requires_gradient_sync(False)", True),
        ("model = DDP(model)\n    with model.no_sync(): model(**batch).loss.backward()", False),
        ("model = FSDP(model)", False),
    ],
)
def test_gradients_that_fsdp_is_told_not_to_divide_are_named(wrapping, is_whole, tmp_path):
    """DDP has them whole anyway."""
    plan = plan_of(tmp_path, TORCHRUN, loop(wrapping.replace("\n    ", "\n")))

    assert (
        "gradients that FSDP leaves whole" in {each.unpriced for each in plan.notices}
    ) is is_whole


def test_what_a_flag_decides_is_read_with_it_and_open_without(tmp_path):
    offloads = (
        "model = FSDP(model, cpu_offload=CPUOffload(offload_params=True) if args.offload else None)"
    )

    assert plan_of(tmp_path, TORCHRUN, loop(offloads)).offload_params == "none"
    assert plan_of(tmp_path, f"{TORCHRUN} --offload", loop(offloads)).offload_params == "cpu"
    unknown = "model = FSDP(model, sharding_strategy=strategies[args.kind], cpu_offload=offload())"
    assert {"reshard_after_forward", "offload_params"} <= opens(
        plan_of(tmp_path, TORCHRUN, loop(unknown))
    )


def test_an_engine_that_only_running_chooses_is_open(tmp_path):
    wrapping = "if torch.cuda.mem_get_info()[0] > 2**33:\n    model = FSDP(model)\nelse:\n    model = DDP(model)"
    plan = plan_of(tmp_path, TORCHRUN, loop(wrapping))

    assert set(plan.origins["engine"].may_be) == {"ddp", "fsdp1"}


@pytest.mark.parametrize("stage, engine", [(1, "zero1"), (2, "zero2"), (3, "zero3")])
def test_a_deepspeed_config_of_the_script_is_read(stage, engine, tmp_path):
    wrapping = (
        f'config = {{"train_micro_batch_size_per_gpu": 2, "zero_optimization": {{"stage": {stage}}}}}\n'
        'config["bf16"] = {"enabled": True}\n'
        "model, *_ = deepspeed.initialize(model=model, config=config)"
    )
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", loop(wrapping))

    assert (plan.engine, plan.world_size) == (engine, 8)
    assert plan.mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("blocks", "precision"),
    [
        ({"bfloat16": {"enabled": True}}, "bf16"),
        ({"bfloat16": {"enabled": False}}, "no"),
        ({"bfloat16": {"enabled": True}, "bf16": {"enabled": False}}, "no"),
        ({"fp16": {"enabled": True}}, "fp16"),
    ],
)
def test_deepspeed_takes_bf16_by_its_older_name(blocks, precision, tmp_path):
    from deepspeed.runtime.precision_config import get_bfloat16_config  # warns on its way

    written = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 2}, **blocks}
    wrapping = f"model, *_ = deepspeed.initialize(model=model, config={written})"
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", loop(wrapping))

    assert plan.mixed_precision == precision
    assert get_bfloat16_config(blocks).enabled is (precision == "bf16")


def test_accelerate_turns_off_bf16_by_its_older_name(tmp_path):
    written = {"train_batch_size": 8, "zero_optimization": {"stage": 2}, "bfloat16": {"enabled": True}}  # fmt: skip
    config = tmp_path / "zero.json"
    config.write_text(json.dumps(written))
    made = DeepSpeedPlugin(hf_ds_config=str(config))
    made.set_mixed_precision("no")
    loaded = "from accelerate import Accelerator\nmodel = Accelerator().prepare(model)"
    words = "accelerate launch --num_processes 8 --use_deepspeed --deepspeed_config_file zero.json loop.py"

    assert made.deepspeed_config["bf16"] == {"enabled": False}
    assert plan_of(tmp_path, words, loop(loaded)).mixed_precision == "no"


ZERO = 'config = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 3}}\n'
INITIALIZE = "\nmodel, *_ = deepspeed.initialize(model=model, config=config)"
OFFLOAD = '{"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}'


@pytest.mark.parametrize(
    ("change", "engine", "offloads"),
    [
        ('config["zero_optimization"]["stage"] = 2', "zero2", ("none", "none")),
        ('config["zero_optimization"]["offload_param"] = {"device": "cpu"}', "zero3", ("none", "cpu")),
        (f'config["zero_optimization"].update({OFFLOAD})', "zero3", ("cpu", "cpu")),
        ('config.update({"zero_optimization": {"stage": 1}})', "zero1", ("none", "none")),
        ('zero = config["zero_optimization"]\nzero["offload_optimizer"] = dict(device="cpu")', "zero3", ("cpu", "none")),
        ('config["zero_optimization"]["stage"] = 1\nconfig["zero_optimization"]["stage"] = 2', "zero2", ("none", "none")),
        ('config["zero_optimization"] = {"stage": 1}\nconfig["zero_optimization"]["stage"] += 1', None, None),
        ('config["zero_optimization"]["stage"] = int(os.environ["STAGE"]) + torch.cuda.device_count()', None, None),
        ('config["zero_optimization"].pop("stage")', None, None),
        ('config["zero_optimization"].update(made_elsewhere())', None, None),
    ],
)  # fmt: skip
def test_what_is_set_within_a_config_counts(change, engine, offloads, tmp_path):
    """It was left out: a stage 2 that was set later was said to take what stage 3 does."""
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", loop(ZERO + change + INITIALIZE))

    if engine is None:
        assert {"zero1", "zero3"} < set(plan.origins["engine"].may_be)
    else:
        assert (plan.engine, (plan.offload_optimizer, plan.offload_params)) == (engine, offloads)


WITHIN = {
    "another function": ('def fill():\n    CONFIG["zero_optimization"]["stage"] = 1\n', "fill()\nconfig = CONFIG", None),
    "a parameter": ('def fill(it):\n    it["zero_optimization"]["stage"] = 1\n', ZERO + "fill(config)", None),
    "the function itself": ("", 'CONFIG["zero_optimization"]["stage"] = 1\nconfig = CONFIG', "zero1"),
    "a copy": ("", ZERO + 'other = copy.deepcopy(config)\nother["zero_optimization"]["stage"] = 1', "zero3"),
    "the copy": ("", ZERO.replace("config", "other") + 'config = copy.deepcopy(other)\nconfig["zero_optimization"]["stage"] = 1', "zero1"),
    "nothing": ('def fill(it):\n    it["steps"] = 1\n', ZERO + "fill(config)", "zero3"),
}  # fmt: skip


@pytest.mark.parametrize("case", WITHIN)
def test_what_another_block_sets_within_a_config_counts(case, tmp_path):
    before, wrapping, engine = WITHIN[case]
    files = loop(wrapping + INITIALIZE)
    of_module = ZERO.replace("config", "CONFIG", 1) + before
    files["loop.py"] = files["loop.py"].replace("def main(", of_module + "def main(", 1)
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", files)

    if engine is None:
        assert {"zero1", "zero3"} < set(plan.origins["engine"].may_be)
    else:
        assert plan.engine == engine


def test_what_a_branch_sets_within_a_config_is_open(tmp_path):
    change = (
        "if torch.cuda.mem_get_info()[0] < 2**36:\n"
        f'    config["zero_optimization"].update({OFFLOAD})'
    )
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", loop(ZERO + change + INITIALIZE))

    assert plan.engine == "zero3"
    assert {"offload_optimizer", "offload_params"} <= opens(plan)


@pytest.mark.parametrize(("said", "steps"), [("", 16), (', "gradient_accumulation_steps": 4', 4)])
def test_micro_batches_to_a_step_are_the_scripts_where_its_config_says_none(said, steps, tmp_path):
    wrapping = (
        'config = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 2}'
        f"{said}}}\n"
        "model, *_ = deepspeed.initialize(model=model, config=config)"
    )
    words = "deepspeed --num_gpus 8 loop.py --gradient_accumulation_steps 16"

    assert plan_of(tmp_path, words, loop(wrapping)).gradient_accumulation_steps == steps


def test_ranks_that_share_matrices_do_not_divide_states_again(tmp_path):
    wrapping = (
        'config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2},'
        ' "bf16": {"enabled": True}, "tensor_parallel": {"autotp_size": 4}}\n'
        "model, *_ = deepspeed.initialize(model=model, config=config)"
    )
    plan = plan_of(tmp_path, "deepspeed --num_gpus 8 loop.py", loop(wrapping))

    assert (plan.tensor_parallel_degree, plan.shard_degree) == (4, 2)


SPAWN = "mp.spawn(main, nprocs=args.world_size, args=(args,))"
COUNTED = (
    "args.world_size = args.world_size if args.world_size > 0 else torch.cuda.device_count()\n    "
)


def test_ranks_that_a_script_spawns_are_counted_where_it_says_how_many(tmp_path):
    files = loop("model = FSDP(model)", COUNTED + SPAWN, "rank, args")
    said = plan_of(tmp_path, "python loop.py --world_size 4", files)
    unsaid = plan_of(tmp_path, "python loop.py", files)

    assert (said.engine, said.world_size, said.shard_degree) == ("fsdp1", 4, 4)
    assert said.origins["world_size"].where == "--world_size"
    assert unsaid.engine == "fsdp1"
    assert "world_size" in opens(unsaid)
    number = loop("model = DDP(model)", "mp.spawn(main, nprocs=2, args=(args,))", "rank, args")
    assert plan_of(tmp_path, "python loop.py", number).world_size == 2


RAY = """\
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def train(config):
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B")
    arguments = TrainingArguments(output_dir="out", bf16=True, fsdp="full_shard")
    Trainer(model=model, args=arguments).train()

TorchTrainer(train, scaling_config=ScalingConfig(num_workers=WORKERS, use_gpu=True)).fit()
"""


def test_workers_of_ray_train_are_ranks(tmp_path):
    plan = plan_of(tmp_path, "python loop.py", {"loop.py": RAY.replace("WORKERS", "8")})
    unsaid = plan_of(tmp_path, "python loop.py", {"loop.py": RAY.replace("WORKERS", "count()")})

    assert (plan.engine[:4], plan.world_size, plan.shard_degree) == ("fsdp", 8, 8)
    assert "world_size" in opens(unsaid)


PLUGIN = """\
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from transformers import AutoModelForCausalLM

plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
accelerator = Accelerator(fsdp_plugin=plugin)
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", dtype="bfloat16")
for batch in DataLoader(rows, batch_size=1):
    tokenizer(batch, truncation=True, max_length=8192)
    accelerator.backward(model(batch).loss)
"""


def test_an_engine_of_the_scripts_own_may_divide_ranks_that_nobody_counted(tmp_path):
    """One process stands for any number of them; on eight the plugin shards what one cannot hold."""
    (tmp_path / "train.py").write_text(PLUGIN)
    launch = LaunchCommand(("accelerate", "launch", "train.py"), {}, str(tmp_path))
    verdict = check_launch(launch, load_plugins(), Request("h100-sxm-80")).verdict

    assert verdict.answer is Answer.UNKNOWN


@pytest.mark.parametrize("zero", ["5", "true", '"3"', "[3]"])
def test_a_zero_section_that_is_no_object_is_a_mistake_in_the_file(tmp_path, zero):
    (tmp_path / "ds.json").write_text(f'{{"zero_optimization": {zero}}}')
    script = "(args,) = HfArgumentParser((TrainingArguments,)).parse_args_into_dataclasses()\n"
    files = {"train.py": f"from transformers import *\n{script}Trainer(m, args).train()\n"}

    with pytest.raises(BadInput, match="zero_optimization"):
        plan_of(tmp_path, "torchrun train.py --deepspeed ds.json --output_dir o", files)


MESH = "from torch.distributed.device_mesh import init_device_mesh\nmesh = {}\n"
PAIRS = MESH.format("init_device_mesh('cuda', (16, 2))")
MADE = MESH.format("make_mesh(args)")
FOUR_NODES = "torchrun --nnodes 4 --nproc_per_node 8 --master_addr a loop.py"


@pytest.mark.parametrize(
    ("wrapping", "degrees", "may_be"),
    [
        ("fully_shard(model)", (32, 1), ()),
        ("fully_shard(model, mesh=None)", (32, 1), ()),
        (PAIRS + "fully_shard(model, mesh=mesh)", (2, 16), ()),
        (MESH.format("init_device_mesh('cuda', mesh_shape=(32,))") + "fully_shard(model, mesh=mesh)", (32, 1), ()),
        (MESH.format("init_device_mesh('cuda', (2, 2))") + "fully_shard(model, mesh=mesh)", (32, 1), (32, 8, 2)),
        (PAIRS + "fully_shard(model, mesh=mesh['a'])", (32, 1), (32, 8, 2)),
        (MADE + "fully_shard(model, mesh=mesh)", (32, 1), (32, 8, 2)),
        ("fully_shard(model, **settings())", (32, 1), (32, 8)),
        ("model = FSDP(model)", (32, 1), ()),
        ("model = FSDP(model, sharding_strategy=ShardingStrategy.HYBRID_SHARD)", (8, 4), ()),
        (PAIRS + "model = FSDP(model, sharding_strategy=ShardingStrategy.HYBRID_SHARD, device_mesh=mesh)", (2, 16), ()),
        (MADE + "model = FSDP(model, sharding_strategy=ShardingStrategy.HYBRID_SHARD, device_mesh=mesh)", (8, 4), (8, 32, 1)),
        ("model = FSDP(model, sharding_strategy=getattr(ShardingStrategy, args.kind))", (32, 1), (32, 8, 1)),
        ("model = FSDP(model, process_group=dist.new_group([0, 1]))", (32, 1), (32, 8, 1)),
    ],
)  # fmt: skip
def test_a_call_divides_the_model_over_the_ranks_of_its_mesh(wrapping, degrees, may_be, tmp_path):
    plan = plan_of(tmp_path, FOUR_NODES, loop(wrapping))

    assert (plan.shard_degree, plan.replicate_degree) == degrees
    assert plan.origins["shard_degree"].may_be == may_be


def test_a_strategy_that_only_running_tells_never_makes_a_launch_fit(tmp_path):
    files = loop("model = FSDP(model, sharding_strategy=getattr(ShardingStrategy, args.kind))")
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("Llama-2-7b", "Llama-2-13b"))
    command = LaunchCommand(tuple(FOUR_NODES.split()), {}, str(tmp_path))
    settings = {"seq_len": 512, "micro_batch_size": 1}
    report = check_launch(command, load_plugins(), Request(device="h100-sxm-80", settings=settings))

    assert report.verdict.answer is Answer.UNKNOWN
    assert "shard_degree" in report.readings.deciding


TRAINED = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

config = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}}
CHANGE
args = TrainingArguments("out", per_device_train_batch_size=1, bf16=True, deepspeed=config)
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
Trainer(model=model, args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("change", "engine", "opened"),
    [
        ("pass", "zero3", None),
        ('config["zero_optimization"]["stage"] = 1', "zero1", None),
        ('config["zero_optimization"]["stage"] = torch.cuda.device_count()', None, "engine"),
        ('config["zero_optimization"]["offload_param"] = {"device": made_elsewhere()}', "zero3", "offload_params"),
        ('config["zero_optimization"]["reduce_bucket_size"] = made_elsewhere()', "zero3", None),
    ],
)  # fmt: skip
def test_a_trainers_config_is_open_where_running_tells_what_decides(
    change, engine, opened, tmp_path
):
    """A stage that was not known was read as none, and refused what ZeRO-3 holds."""
    files = {"train.py": TRAINED.replace("CHANGE", change)}
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", files)

    found = {"engine", "offload_params"} & opens(plan)
    assert found == ({opened} if opened else set()) or (opened == "engine" and opened in found)
    if engine is not None:
        assert plan.engine == engine
