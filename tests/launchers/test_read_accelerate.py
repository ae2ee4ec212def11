"""What the reader of `accelerate launch` says about a launch: values, where they come from, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.errors import BadInput, Problem
from preflight.findings import kind_of
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.accelerate import LAUNCHER

FSDP2 = """distributed_type: FSDP
num_processes: 8
mixed_precision: bf16
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
"""
HF_SCRIPT = """from transformers import HfArgumentParser, Trainer, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
"""
LOOP = "import argparse\nfrom accelerate import Accelerator\n"


def command(
    words: str, files: Mapping[str, str], env: Mapping[str, str] | None = None
) -> LaunchCommand:
    overlay = {f"/srv/job/{name}": text for name, text in files.items()}
    overlay = {"/srv/job/train.py": LOOP, **overlay}
    environment = {"HOME": "/nonexistent", **(env or {})}
    return LaunchCommand(("accelerate", "launch", *words.split()), environment, "/srv/job", overlay)


def read(words: str, files: Mapping[str, str], env: Mapping[str, str] | None = None) -> LaunchPlan:
    plan = LAUNCHER.read(command(words, files, env))
    assert plan is not None
    return plan


def read_config(text: str, *arguments: str, env: Mapping[str, str] | None = None) -> LaunchPlan:
    return read(" ".join(["--config_file c.yaml train.py", *arguments]), {"c.yaml": text}, env)


def refusal(words: str, files: Mapping[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as error:
        read(words, files)
    return error.value.problems


def test_another_launcher_is_not_ours() -> None:
    assert LAUNCHER.read(LaunchCommand(("torchrun", "train.py"))) is None


def test_every_value_knows_where_it_is_written() -> None:
    plan = read_config(FSDP2)

    assert plan.origins["world_size"].where == "c.yaml:2"
    assert plan.origins["mixed_precision"].where == "c.yaml:3"
    assert plan.origins["wrap_policy"].where == "c.yaml:6"
    assert plan.origins["reshard_after_forward"].where.startswith("default of accelerate 1.")
    assert not plan.origins["world_size"].assumed


def test_a_flag_beats_the_file_and_is_the_place_to_change() -> None:
    words = "--config_file c.yaml --fsdp_reshard_after_forward false --num_processes=4 train.py"
    plan = read(words, {"c.yaml": FSDP2})

    assert (plan.reshard_after_forward, plan.world_size) == (False, 4)
    assert plan.origins["reshard_after_forward"].where == "--fsdp_reshard_after_forward"
    assert plan.source.places["world_size"][0].index == 6


def test_both_places_of_one_value_are_kept() -> None:
    files = {
        "train.py": HF_SCRIPT,
        "c.yaml": "distributed_type: MULTI_GPU\nnum_processes: 4\n",
        "ds.json": '{\n "zero_optimization": {"stage": 3},\n "train_micro_batch_size_per_gpu": 2\n}',
    }
    words = "--config_file c.yaml train.py --deepspeed ds.json --per_device_train_batch_size 2"
    plan = read(words, files)
    places = plan.source.places["micro_batch_size"]

    assert (plan.engine, plan.shard_degree, plan.micro_batch_size) == ("zero3", 4, 2)
    assert [place.where for place in places] == ["--per_device_train_batch_size", "ds.json:3"]
    assert plan.documents == {"accelerate": "c.yaml", "deepspeed": "ds.json"}


def test_auto_buckets_wait_for_the_hidden_size() -> None:
    files = {
        "ds.json": '{"zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto"}}'
    }
    words = "--use_deepspeed --deepspeed_config_file ds.json --num_processes 2 train.py"
    plan = read(words, files)

    assert plan.deepspeed is not None
    assert plan.deepspeed.reduce_bucket_size is None
    assert plan.deepspeed.stage3_prefetch_bucket_size is None
    assert plan.deepspeed.stage3_param_persistence_threshold == 100_000


def test_the_default_config_is_read_and_named() -> None:
    path = "/cache/hf/accelerate/default_config.yaml"
    launch = LaunchCommand(
        ("accelerate", "launch", "train.py"),
        {"HF_HOME": "/cache/hf"},
        "/srv/job",
        {path: FSDP2, "/srv/job/train.py": LOOP},
    )
    plan = LAUNCHER.read(launch)

    assert plan is not None
    assert plan.engine == "fsdp2"
    assert plan.source.part.is_default_config
    assert [(n.id, n.where) for n in plan.notices] == [("PF104", path)]


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"HF_HOME": "/a"}, "/a/accelerate"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/huggingface/accelerate"),
        ({"HOME": "/home/me"}, "/home/me/.cache/huggingface/accelerate"),
    ],
)
def test_the_default_config_lies_where_accelerate_looks(env: dict[str, str], path: str) -> None:
    overlay = {f"{path}/default_config.yaml": FSDP2}
    launch = LaunchCommand(("accelerate", "launch", "x.py"), {"HOME": "/none", **env}, "/", overlay)
    plan = LAUNCHER.read(launch)

    assert plan is not None
    assert plan.engine == "fsdp2"


def test_visible_gpus_are_the_ranks_where_nobody_gives_them() -> None:
    plan = read("train.py", {}, {"CUDA_VISIBLE_DEVICES": "0,2,3"})

    assert (plan.engine, plan.world_size) == ("ddp", 3)
    assert plan.origins["world_size"].where == "$CUDA_VISIBLE_DEVICES"


def test_an_assumed_mode_says_why() -> None:
    plan = read("--num_processes 4 train.py", {}, {"CUDA_VISIBLE_DEVICES": ""})

    assert plan.engine == "ddp"
    assert plan.origins["engine"].assumed
    assert "more than one GPU" in plan.origins["engine"].reason


def test_the_trainers_flag_beats_the_launchers_precision() -> None:
    files = {"train.py": HF_SCRIPT, "c.yaml": FSDP2}
    plan = read("--config_file c.yaml train.py --fp16", files)

    assert plan.mixed_precision == "fp16"
    assert plan.origins["mixed_precision"].where == "--fp16"


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_expandable_segments_come_from_the_environment(name: str) -> None:
    value = "max_split_size_mb:128, expandable_segments:True"
    plan = read_config(FSDP2, env={name: value})

    assert plan.expandable_segments
    assert plan.origins["expandable_segments"].where == f"${name}"


def test_one_checkpointing_switch_is_enough() -> None:
    files = {"train.py": HF_SCRIPT, "c.yaml": FSDP2 + "  fsdp_activation_checkpointing: true\n"}
    alone = read("--config_file c.yaml train.py", files)
    problems = refusal("--config_file c.yaml train.py --gradient_checkpointing", files)

    assert alone.activation_checkpointing == "full"
    assert [(p.id, p.where) for p in problems] == [("PF203", "c.yaml:7")]


def test_every_problem_of_a_file_comes_at_once_and_in_file_order() -> None:
    text = """mixed_precision: no
distributed_type: FSDP
num_processes: 8
zero_stage: 3
gpu_ids: 0
fsdp_config:
  fsdp_auto_wrap_policy: TRANSFORMER_WRAP
  fsdp_offload_params: maybe
"""
    problems = refusal("--config_file c.yaml train.py", {"c.yaml": text})

    assert [p.where for p in problems] == [f"c.yaml:{line}" for line in (1, 4, 5, 7, 8)]
    assert problems[0].fix == "mixed_precision: 'no'"
    assert "deepspeed_config" in problems[1].fix
    assert problems[4].message == "fsdp_offload_params must be true or false, not 'maybe'"


def test_an_ignored_key_is_named_with_the_one_that_works() -> None:
    plan = read_config(FSDP2 + "  fsdp_cpu_offload: true\n  fsdp_ofload_params: true\n")
    notices = [(n.id, n.severity, n.where, n.fix) for n in plan.notices]

    assert notices == [
        ("PF101", "warning", "c.yaml:7", "did you mean fsdp_offload_params"),
        ("PF101", "warning", "c.yaml:8", "did you mean fsdp_offload_params"),
    ]
    assert plan.offload_params == "none"


def test_deepspeed_and_trainer_that_disagree_are_named_with_both_places() -> None:
    config = """distributed_type: DEEPSPEED
num_processes: 8
mixed_precision: bf16
deepspeed_config:
  zero_stage: 2
  gradient_accumulation_steps: 1
"""
    words = "--config_file c.yaml train.py --bf16 --gradient_accumulation_steps 4"
    problems = refusal(words, {"c.yaml": config, "train.py": HF_SCRIPT})

    assert [(p.id, p.where) for p in problems] == [("PF303", "c.yaml:6")]
    assert "--gradient_accumulation_steps" in problems[0].message


def test_the_device_of_nobody_is_probed_for_a_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login node has no GPU: a config that says its ranks is read without looking for one."""
    import preflight.launchers.accelerate.launcher as launcher

    def looked(env: Mapping[str, str]) -> int:
        raise AssertionError("the reader counted devices")

    monkeypatch.setattr(launcher, "num_visible_devices", looked)

    assert read_config(FSDP2).world_size == 8


def test_reading_imports_no_training_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from preflight.launchers.accelerate import LAUNCHER\n"
        "from preflight.launch import LaunchCommand\n"
        "argv = ('accelerate', 'launch', '--use_fsdp', '--num_processes', '2', 't.py')\n"
        "assert LAUNCHER.read(LaunchCommand(argv, {}, '/')).engine == 'fsdp1'\n"
        "heavy = {'torch', 'accelerate', 'transformers', 'deepspeed', 'trl', 'peft', 'importlib.metadata'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "torch" not in done.stdout
    assert "transformers" not in done.stdout
    assert "deepspeed" not in done.stdout


SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        -1,
        8,
        1.5,
        "",
        "no",
        "NO",
        "8",
        "true",
        "auto",
        "x,y",
        [],
        [1],
        {},
        {"a": 1},
    ]
)
TOP_KEYS = (
    "num_processes",
    "num_machines",
    "mixed_precision",
    "gpu_ids",
    "main_process_ip",
    "dynamo_backend",
    "machine_rank",
    "use_cpu",
    "debug",
)
FSDP_KEYS = (
    "fsdp_version",
    "fsdp_sharding_strategy",
    "fsdp_reshard_after_forward",
    "fsdp_auto_wrap_policy",
    "fsdp_transformer_layer_cls_to_wrap",
    "fsdp_min_num_params",
    "fsdp_state_dict_type",
    "fsdp_backward_prefetch",
    "fsdp_offload_params",
    "fsdp_activation_checkpointing",
)
ZERO_KEYS = (
    "zero_stage",
    "offload_optimizer_device",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "deepspeed_config_file",
    "zero3_init_flag",
)
SIZES = ("dp_shard_size", "dp_replicate_size", "tp_size", "cp_size", "sp_size")


def some(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(keys), SCALARS, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["FSDP", "DEEPSPEED", "MULTI_GPU", "NO", False, None]),
    some(TOP_KEYS),
    st.one_of(SCALARS, some(FSDP_KEYS)),
    st.one_of(SCALARS, some(ZERO_KEYS)),
    st.one_of(SCALARS, some(tuple(f"parallelism_config_{size}" for size in SIZES))),
)
def test_a_file_gives_a_plan_or_a_refusal_and_never_a_traceback(
    kind: object, top: dict[str, object], fsdp: object, zero: object, parallelism: object
) -> None:
    config = {
        "distributed_type": kind,
        "num_processes": 8,
        **top,
        "fsdp_config": fsdp,
        "deepspeed_config": zero,
        "parallelism_config": parallelism,
    }
    try:
        said = read_config(yaml.safe_dump(config)).notices
    except BadInput as refused:
        said = refused.problems
        assert any(problem.severity == "error" for problem in said)

    assert all(kind_of(problem.id) is not None for problem in said)


ZERO_VALUES = st.one_of(
    SCALARS, st.dictionaries(st.sampled_from(["device", "pin_memory", "nvme_path"]), SCALARS)
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "stage",
                "offload_optimizer",
                "offload_param",
                "reduce_bucket_size",
                "overlap_comm",
                "sub_group_size",
            ]
        ),
        ZERO_VALUES,
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "bf16",
                "fp16",
                "gradient_accumulation_steps",
                "train_batch_size",
                "optimizer",
                "data_types",
            ]
        ),
        st.one_of(
            SCALARS, st.dictionaries(st.sampled_from(["enabled", "type", "params"]), SCALARS)
        ),
    ),
)
def test_a_deepspeed_file_gives_a_plan_or_a_refusal_and_never_a_traceback(
    zero: dict[str, object], rest: dict[str, object]
) -> None:
    import json

    files = {
        "train.py": HF_SCRIPT,
        "ds.json": json.dumps({"zero_optimization": zero, **rest}),
    }
    words = "--multi_gpu --num_processes 8 train.py --deepspeed ds.json --bf16"
    try:
        read(words, files)
    except BadInput as refused:
        assert refused.problems


def test_a_precision_that_the_file_states_is_not_called_assumed() -> None:
    """TRL would train in bf16 anyway: that the file says so too is what the user wants to read."""
    plan = read("--config_file c.yaml -m trl.scripts.sft --max_length 128", {"c.yaml": FSDP2})

    assert plan.mixed_precision == "bf16"
    assert plan.origins["mixed_precision"].where == "c.yaml:3"


@pytest.mark.parametrize(
    ("words", "ids"),
    [("train.py", ["PF136"]), ("--gpu_ids 0 train.py", []), ("--cpu train.py", ["PF143"])],
)
def test_one_process_that_sees_several_gpus_is_said(words: str, ids: list[str]) -> None:
    """The simple launcher leaves every visible GPU to one process, and Trainer takes them all."""
    config = "distributed_type: 'NO'\nnum_processes: 1\n"
    files = {"c.yaml": config, "train.py": HF_SCRIPT}
    plan = read(f"--config_file c.yaml {words}", files, {"CUDA_VISIBLE_DEVICES": "0,1"})

    assert [notice.id for notice in plan.notices] == ids


@pytest.mark.parametrize(("line", "is_named"), [("", False), ("  fsdp_ignored_modules: .*embed.*\n", True)])  # fmt: skip
def test_modules_that_fsdp_leaves_whole_are_named(line: str, is_named: bool) -> None:
    plan = read_config(FSDP2 + line)

    assert ("modules that FSDP does not shard" in {n.unpriced for n in plan.notices}) is is_named


@pytest.mark.parametrize(
    ("arguments", "is_named"),
    [
        (("--dynamo_backend", "inductor", "--dynamo_mode", "max-autotune"), True),
        (("--dynamo_backend", "inductor", "--dynamo_mode", "reduce-overhead"), True),
        (("--dynamo_backend", "cudagraphs"), True),
        (("--dynamo_backend", "inductor"), False),
        (("--dynamo_mode", "max-autotune"), False),
        (("--use_deepspeed", "--dynamo_backend", "inductor", "--dynamo_mode", "max-autotune"), False),
    ],
)  # fmt: skip
def test_pools_of_cuda_graphs_are_named_where_accelerate_compiles_with_them(arguments, is_named):
    words = " ".join(["--num_processes 2", *arguments, "train.py"])
    plan = read(words, {})

    assert ("CUDA graphs" in {notice.unpriced for notice in plan.notices}) is is_named
