"""Config functions of a torchtitan checkout: read by their statements, with flags over them, and what is not followed named."""

from __future__ import annotations

import shlex

import pytest

import preflight
from preflight.launch import LaunchCommand
from preflight.launchers.torchtitan import LAUNCHER
from preflight.scripts.python.made_objects import FunctionReader, Made
from preflight.scripts.python.scope import UNKNOWN
from preflight.unpriced_names import CUDA_GRAPH, GRAPH_STEP
from preflight.verdict import Answer

CLASSES = """\
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    num_tokens_per_microbatch_per_dp_rank: int = 16384
    num_tokens_per_train_step: int = -1
    max_context_length: int = 2048
    max_norm: float | int = 1.0
    enable_cpu_offload: bool = False
    disable_cuda_graphs: bool = False
    dtype: str = "float32"
    mixed_precision_param: str = "bfloat16"
    mixed_precision_reduce: str = "float32"


@dataclass(kw_only=True, slots=True)
class ParallelismConfig:
    data_parallel_replicate_degree: int = 1
    data_parallel_shard_degree: int = -1
    fsdp_reshard_after_forward: str = "default"
    tensor_parallel_degree: int = 1
    pipeline_parallel_degree: int = 1
    pipeline_parallel_schedule: str = "1F1B"
    num_pp_microbatches: int = 1
    context_parallel_degree: int = 1
    expert_parallel_degree: int = 1


@dataclass(kw_only=True, slots=True)
class CompileConfig:
    enable: bool = False
    components: list[str] = field(default_factory=lambda: ["model", "loss"])
"""
REGISTRY = """\
import os

from torchtitan.components.loss import ChunkedLossWrapper
from torchtitan.components.optimizer import default_adamw
from torchtitan.config import CompileConfig, ParallelismConfig, TrainingConfig
from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC
from torchtitan.models.llama3 import model_registry
from torchtitan.trainer import Trainer

LENGTH = 4096


def ours_8b(length: int = LENGTH) -> Trainer.Config:
    spec = model_registry("8B", attn_backend="flex")
    return Trainer.Config(
        model_spec=spec,
        loss=ChunkedLossWrapper.Config(),
        optimizer=default_adamw(lr=8e-4),
        training=TrainingConfig(
            num_tokens_per_microbatch_per_dp_rank=2 * length,
            max_context_length=length,
            disable_cuda_graphs=True,
        ),
        parallelism=ParallelismConfig(tensor_parallel_degree=2),
        activation_checkpoint=SelectiveAC.Config(),
    )


def _checkpoint(config: Trainer.Config) -> None:
    config.activation_checkpoint = FullAC.Config()


def ours_8b_long() -> Trainer.Config:
    \"\"\"The same with more.\"\"\"
    config = ours_8b(length=2 * LENGTH)
    config.compile = CompileConfig(enable=True, components=["loss"])
    config.parallelism.tensor_parallel_degree = 4
    _checkpoint(config)
    return config


def ours_graph() -> Trainer.Config:
    config = ours_8b()
    config.training.disable_cuda_graphs = False
    return config


def ours_anyhow() -> Trainer.Config:
    config = ours_8b()
    if os.environ["CLUSTER"] == "a":
        config.training.max_context_length = 65536
    return config


def ours_any_model() -> Trainer.Config:
    config = ours_8b()
    config.model_spec = model_registry(pick())
    return config


def ours_more(**more) -> Trainer.Config:
    config = ours_8b()
    config.training = TrainingConfig(max_context_length=1024, **more)
    return config


def ours_own_class() -> Trainer.Config:
    config = ours_8b()
    config.parallelism = OurParallelism(tensor_parallel_degree=4)
    return config


def ours_for_ever() -> Trainer.Config:
    return Trainer.Config(model_spec=[ours_for_ever(), ours_for_ever(), ours_for_ever()])


def ours_experts() -> Trainer.Config:
    config = ours_8b()
    config.parallelism.expert_parallel_degree = 2
    return config


def ours_stages() -> Trainer.Config:
    config = ours_8b()
    config.parallelism.pipeline_parallel_degree = 2
    return config


def ours_budget() -> Trainer.Config:
    config = ours_8b()
    config.activation_checkpoint = MemoryBudgetAC.Config()
    return config


def ours_list() -> Trainer.Config:
    for config in [ours_8b(), ours_graph()]:
        return config
"""
OF_GRAPHS = """\
from dataclasses import dataclass, field

LAYERS = "layers.*"


@dataclass(kw_only=True, slots=True)
class Overlap:
    enabled: bool = False
    modules: str = LAYERS


@dataclass(kw_only=True, slots=True)
class GraphTrainerCompileConfig(CompileConfig):
    mode: str | None = "aot_fx_trace"
    memory_policy: str = "default"
    enable_passes: bool = True
    disable_passes: list[str] = field(default_factory=list)
    pass_pipeline: str = "default"
    inductor_compilation: str = "regional"
    enable_fsdp_dense_region_overlap: bool = False
    enable_autoparallel: bool = False
    ep_overlap: Overlap = field(default_factory=Overlap)


def to_graph_trainer_config(base_config, model_registry):
    return convert(base_config, model_registry)
"""
GRAPHS = """\
from torchtitan.experiments.graph_trainer.configs import (
    GraphTrainerCompileConfig,
    to_graph_trainer_config,
)

from mine.config_registry import ours_8b, ours_8b_long
from . import model_registry


def traced_8b():
    config = to_graph_trainer_config(ours_8b(), model_registry)
    config.compile = GraphTrainerCompileConfig(enable=True)
    return config


def traced_8b_own():
    config = to_graph_trainer_config(ours_8b_long(), model_registry)
    config.model_spec = model_registry("debugmodel")
    return config


def traced_8b_compiled():
    config = traced_8b()
    config.compile.inductor_compilation = "full"
    return config


def traced_8b_anyhow():
    config = traced_8b()
    config.compile.memory_policy = pick()
    return config
"""
FILES = {
    "torchtitan/train.py": "from torchtitan.trainer import Trainer\n\nTrainer().train()\n",
    "torchtitan/trainer.py": "model = torch.cuda.graph(parallelize_fn(model))\n\nclass Trainer:\n    class Config:\n        pass\n",
    "torchtitan/config/__init__.py": "from .configs import CompileConfig, ParallelismConfig, TrainingConfig\n",
    "torchtitan/config/configs.py": CLASSES,
    "torchtitan/models/llama3/__init__.py": "def model_registry(flavor, **kwargs):\n    return flavor\n",
    "mine/config_registry.py": REGISTRY,
    "torchtitan/experiments/graph_trainer/configs.py": OF_GRAPHS,
    "torchtitan/experiments/graph_trainer/llama3/__init__.py": "def model_registry(flavor, **kwargs):\n    return flavor\n",
    "torchtitan/experiments/graph_trainer/llama3/config_registry.py": GRAPHS,
}
GRAPH_MODULE = "graph_trainer.llama3"


@pytest.fixture
def checkout(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def read(folder, config, flags="", ranks=8, module="mine"):
    line = f"torchrun --nproc_per_node {ranks} -m torchtitan.train --module {module} --config {config} {flags}"
    return LAUNCHER.read(LaunchCommand(tuple(shlex.split(line)), {}, str(folder)))


def unpriced(plan):
    return [notice.unpriced for notice in plan.notices if notice.unpriced]


def test_a_function_gives_the_plan_that_it_says(checkout):
    plan = read(checkout, "ours_8b")

    assert plan.model == "meta-llama/Llama-3.1-8B"
    assert (plan.micro_batch_size, plan.seq_len) == (2, 4096)
    assert (plan.engine, plan.shard_degree, plan.tensor_parallel_degree) == ("fsdp2", 4, 2)
    assert (plan.activation_checkpointing, plan.loss) == ("selective_op", "chunked_linear")
    assert plan.origins["seq_len"].where == "default of mine/config_registry.py ours_8b"
    assert unpriced(plan) == []


def test_a_function_on_top_of_another_changes_it(checkout):
    plan = read(checkout, "ours_8b_long")

    assert (plan.micro_batch_size, plan.seq_len) == (2, 8192)
    assert (plan.shard_degree, plan.tensor_parallel_degree) == (2, 4)
    assert plan.activation_checkpointing == "full"
    assert read(checkout, "ours_8b").activation_checkpointing == "selective_op"


def test_flags_of_tokens_are_rows_of_a_length(checkout):
    flags = (
        "--training.num_tokens_per_microbatch_per_dp_rank 65536 --training.max_context_length 2048"
    )
    plan = read(checkout, "ours_8b", f"{flags} --training.num_tokens_per_train_step 1048576")

    assert (plan.micro_batch_size, plan.seq_len) == (32, 2048)
    assert plan.gradient_accumulation_steps == 4
    assert plan.origins["seq_len"].where == "--training.max_context_length"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("ours_graph", CUDA_GRAPH),
        ("ours_experts", "tokens that other ranks send"),
        ("ours_budget", "checkpointing by memory-budget"),
        ("ours_anyhow", "training of ours_anyhow"),
        ("ours_any_model", "model_spec of ours_any_model"),
        ("ours_more", "training of ours_more"),
        ("ours_own_class", "parallelism of ours_own_class"),
        ("ours_for_ever", "model_spec of ours_for_ever"),
    ],
)
def test_what_is_not_followed_is_named(checkout, config, named):
    assert named in unpriced(read(checkout, config))


def test_a_router_that_is_forced_to_be_even_sends_no_rank_more(checkout):
    assert unpriced(read(checkout, "ours_experts", "--debug.moe_force_load_balance")) == []


def test_stages_that_a_function_says_are_sent_whole_micro_batches(checkout):
    plan = read(checkout, "ours_stages", "--parallelism.num_pp_microbatches 6")

    assert plan.pipeline is not None and (plan.pipeline.degree, plan.shard_degree) == (2, 2)
    assert (plan.pipeline.num_micro_batches, plan.gradient_accumulation_steps) == (6, 6)
    assert (plan.micro_batch_size, plan.seq_len) == (2, 4096)
    alone = read(checkout, "ours_8b", "--parallelism.num_pp_microbatches 6")
    assert (alone.pipeline, alone.gradient_accumulation_steps) == (None, 1)


def test_a_graph_keeps_its_gradients(checkout):
    assert read(checkout, "ours_graph").zero_grad_set_to_none is False
    assert read(checkout, "ours_8b").zero_grad_set_to_none is None


def test_a_function_that_gives_one_of_several_is_unknown(checkout):
    plan = read(checkout, "ours_list")

    assert (plan.model, plan.seq_len) == (None, None)
    assert [n.id for n in plan.notices] == ["PF142"]


def test_nothing_is_written_into_words_that_no_release_has(checkout):
    plan = read(checkout, "ours_8b")

    assert LAUNCHER.write(plan, plan.with_edits({"micro_batch_size": 1})) is None


def test_a_key_that_the_checkout_lacks_is_refused_with_its_own(checkout):
    from preflight.errors import BadInput

    with pytest.raises(BadInput) as error:
        read(checkout, "ours_8b", "--training.max_context_len 2048")

    assert error.value.problems[0].fix == "did you mean training.max_context_length"


def test_objects_that_two_calls_make_are_two(checkout):
    reader = FunctionReader(LaunchCommand(("x",), {}, str(checkout)), ("model_registry",))
    path = "mine/config_registry.py"
    first, second = reader.result(path, "ours_graph"), reader.result(path, "ours_8b")

    assert isinstance(first, Made) and isinstance(second, Made)
    assert first.attributes["training"].attributes["disable_cuda_graphs"] is False
    assert second.attributes["training"].attributes["disable_cuda_graphs"] is True
    assert reader.result(path, "nobody") is UNKNOWN


@pytest.mark.parametrize(("device", "fits"), [("h100-sxm-80", True), ("a100-sxm-40", False)])
def test_a_graph_fits_where_the_most_that_its_pool_may_take_does(checkout, device, fits):
    words = "torchrun --nproc_per_node 8 -m torchtitan.train --module mine --config"
    without, captured = (
        preflight.check([*words.split(), name], device=device, cwd=checkout, env={}).verdict
        for name in ("ours_8b", "ours_graph")
    )

    assert without.answer is Answer.FITS
    assert captured.answer is (Answer.FITS if fits else Answer.UNKNOWN)
    assert captured.unpriced == (() if fits else (CUDA_GRAPH,))


def test_a_graph_trainers_config_is_that_of_its_base(checkout):
    plan = read(checkout, "traced_8b", module=GRAPH_MODULE)

    assert (plan.model, plan.micro_batch_size) == ("meta-llama/Llama-3.1-8B", 2)
    assert (plan.tensor_parallel_degree, plan.torch_compile) == (2, False)
    assert plan.activation_checkpointing == "selective_op"
    assert unpriced(plan) == [GRAPH_STEP, CUDA_GRAPH]
    own = read(checkout, "traced_8b_own", module=GRAPH_MODULE)
    assert (own.model, own.tensor_parallel_degree) == (None, 4)
    assert own.model_config["vocab_size"] == 2048
    assert unpriced(own) == [GRAPH_STEP, CUDA_GRAPH]


@pytest.mark.parametrize(
    ("flags", "checkpointing", "named"),
    [
        ("--compile.disable_passes cudagraph_pass,custom_codegen_pass", "selective_op", [GRAPH_STEP]),
        ("--compile.memory_policy full", "full", [GRAPH_STEP, CUDA_GRAPH]),
        ("--compile.memory_policy eager", "selective_op", [GRAPH_STEP, CUDA_GRAPH]),
        ("--parallelism.expert_parallel_degree 2", "selective_op", ["tokens that other ranks send", GRAPH_STEP]),
        ("--compile.no-enable_passes", "selective_op", ["a graph trainer's enable_passes False"]),
        ("--compile.mode jit", "selective_op", ["a graph trainer's mode jit", CUDA_GRAPH]),
        ("--compile.ep_overlap.enabled", "selective_op", ["a graph trainer's ep_overlap.enabled True", CUDA_GRAPH]),
        ("--compile.memory_policy sac_and_offload", "none", ["a graph trainer's memory_policy sac_and_offload", CUDA_GRAPH]),
        ("--compile.disable_passes selective_activation_remat_pass", "selective_op", ["a graph trainer's graph without selective_activation_remat_pass", CUDA_GRAPH]),
        ("--parallelism.pipeline_parallel_degree 2", "selective_op", ["a graph trainer's pipeline parallelism", CUDA_GRAPH]),
    ],
)  # fmt: skip
def test_what_a_graph_keeps_follows_from_its_settings(checkout, flags, checkpointing, named):
    plan = read(checkout, "traced_8b", flags, module=GRAPH_MODULE)

    assert plan.activation_checkpointing == checkpointing
    assert unpriced(plan) == named


def test_settings_of_a_graph_that_are_not_followed_are_named(checkout):
    compiled, anyhow = (
        read(checkout, name, module=GRAPH_MODULE)
        for name in ("traced_8b_compiled", "traced_8b_anyhow")
    )

    assert "a graph trainer's inductor_compilation full" in unpriced(compiled)
    assert "compile.memory_policy of traced_8b_anyhow" in unpriced(anyhow)
    older = checkout / "torchtitan" / "experiments" / "graph_trainer" / "configs.py"
    older.write_text(OF_GRAPHS.replace("memory_policy", "policy"))
    plan = read(checkout, "traced_8b", module=GRAPH_MODULE)
    assert "what to_graph_trainer_config does" in unpriced(plan)


def test_a_graph_that_keeps_most_of_what_it_may_fits_or_not(checkout):
    words = f"torchrun --nproc_per_node 8 -m torchtitan.train --module {GRAPH_MODULE} --config traced_8b"
    flags = (
        "--compile.disable_passes cudagraph_pass --training.num_tokens_per_microbatch_per_dp_rank"
    )
    found = [
        preflight.check(
            [*words.split(), *flags.split(), str(rows * 4096)],
            device="a100-sxm-40", cwd=checkout, env={},
        ).verdict
        for rows in (2, 3)
    ]  # fmt: skip

    assert found[0].answer is Answer.FITS and found[0].bounded == (GRAPH_STEP,)
    assert found[1].answer is Answer.UNKNOWN and found[1].unpriced == (GRAPH_STEP,)
