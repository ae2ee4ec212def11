"""What the reader makes of torchtitan's launches, over configs written afresh, and a remedy written back as flags."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import preflight
from preflight.errors import BadInput
from preflight.hooks import memory_host, remedy_seq_len
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.torchtitan import LAUNCHER
from preflight.launchers.torchtitan.table import FILE_VERSIONS, MODULE_VERSION, table
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.plan_parts import plain
from preflight.slurm.script_reader import read_script
from preflight.unpriced_names import CUDA_GRAPH, SENT_TOKENS

CONFIGS = Path(__file__).parent.parent / "configs"
CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    (CONFIGS / "torchtitan/manifest.yaml").read_text()
)
READ = [name for name, case in CASES.items() if "refused" not in case]


def command(line: str, env: Mapping[str, str] | None = None) -> LaunchCommand:
    words = tuple(shlex.split(line))
    return LaunchCommand(words, {"HOME": "/nonexistent", **(env or {})}, str(CONFIGS))


def read(line: str, env: Mapping[str, str] | None = None) -> LaunchPlan:
    plan = LAUNCHER.read(command(line, env))
    assert plan is not None
    return plan


@pytest.mark.parametrize("name", READ)
def test_a_launch_is_read_as_torchtitan_takes_it(name):
    case = CASES[name]
    plan = read(case["argv"], case.get("env"))
    for field, wanted in case["plan"].items():
        found = getattr(plan, field)
        if field == "versions":
            found = {key: found[key] for key in wanted}
        if field == "pipeline":
            found = plain(found)

        assert found == wanted, field

    assert sorted(n.id for n in plan.notices) == case.get("notices", [])
    assert plan.trainer == "torchtitan"


@pytest.mark.parametrize("name", [name for name in CASES if name not in READ])
def test_what_torchtitan_refuses_is_refused_with_a_place(name):
    with pytest.raises(BadInput) as error:
        read(CASES[name]["argv"])

    assert sorted(p.id for p in error.value.problems if p.severity == "error") == sorted(
        CASES[name]["refused"]
    )
    assert all(p.where for p in error.value.problems)


def test_a_misspelt_key_and_flag_get_their_line_and_the_nearest_name():
    with pytest.raises(BadInput) as file:
        read(CASES["misspelt"]["argv"])
    with pytest.raises(BadInput) as flag:
        read(CASES["misspelt_flag"]["argv"])

    assert [(p.where, p.fix) for p in file.value.problems] == [
        ("torchtitan/misspelt.toml:6", "did you mean training.local_batch_size"),
        ("torchtitan/misspelt.toml:10", "did you mean parallelism.tensor_parallel_degree"),
    ]
    assert flag.value.problems[0].fix == "did you mean training.local_batch_size"


def test_a_module_of_torchtitan_that_trains_nothing_is_none_of_its_launches():
    words = "torchrun --nproc_per_node 2 -m torchtitan.models.flux.inference.infer --module flux"

    assert LAUNCHER.read(command(words)) is None


def test_other_launches_are_left_to_torchrun():
    for line in ("torchrun train.py --config x.toml", "bash run.sh", "./run_train.py"):
        assert LAUNCHER.read(command(line)) is None


@pytest.mark.parametrize(
    "text, is_titan",
    [
        ("from torchtitan.config_manager import JobConfig\n", True),
        ("import torchtitan.config\n", True),
        (
            "from torchtitan.components.optimizer import build\nfrom own.config import Config\n",
            False,
        ),
    ],
)
def test_a_framework_on_top_of_torchtitan_with_a_config_of_its_own_is_none(
    text, is_titan, tmp_path
):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.py").write_text(text)
    (tmp_path / "own.toml").write_text('[model]\nname = "llama3"\nflavor = "8B"\n')
    words = "torchrun --nproc-per-node 8 -m own.train --job.config_file own.toml"
    plan = LAUNCHER.read(LaunchCommand(tuple(words.split()), cwd=str(tmp_path)))

    assert (plan is not None) is is_titan


EAGER: dict[str, Any] = {"torch_compile": False, "loss": "full_logits"}
COMPILED: dict[str, Any] = {"torch_compile": True, "loss": "compiled_ce"}
EDITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("llama_8b", {"micro_batch_size": 1, "gradient_accumulation_steps": 2}),
    ("llama_8b", {"activation_checkpointing": "full"}),
    ("llama_8b", {"activation_checkpointing": "selective_every_2", "seq_len": 4096}),
    ("llama_8b", {"reshard_after_forward": True, **EAGER}),
    ("llama_8b_flags", {"micro_batch_size": 4, "seq_len": 2048}),
    ("llama_8b_flags", {**COMPILED, "activation_checkpointing": "none"}),
    ("llama_70b", {"micro_batch_size": 4, "gradient_accumulation_steps": 4}),
    ("old", {**EAGER, "activation_checkpointing": "full"}),
    ("script", {"micro_batch_size": 2, "gradient_accumulation_steps": 2}),
    ("script_variables", {"activation_checkpointing": "full"}),
    ("named", {"activation_checkpointing": "full", "seq_len": 4096}),
    ("named_flags", {"micro_batch_size": 1, "gradient_accumulation_steps": 2}),
    ("named_flags", {"activation_checkpointing": "none"}),
    ("context", {"expandable_segments": True}),
)


@pytest.mark.parametrize(("name", "edits"), EDITS)
def test_what_is_written_reads_as_the_edited_plan(name, edits):
    env = CASES[name].get("env", {})
    before = read(CASES[name]["argv"], env)
    after = before.with_edits(edits)
    rewrite = LAUNCHER.write(before=before, after=after)
    assert rewrite is not None

    assert read(shlex.join(rewrite.argv), {**env, **rewrite.env}) == after
    assert rewrite.files == ()


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("llama_8b", {"optimizer": "paged_adamw_8bit"}),
        ("named", {"activation_checkpointing": "selective_every_2"}),
    ],
)
def test_what_torchtitan_cannot_say_is_not_written(name, edits):
    before = read(CASES[name]["argv"])

    assert LAUNCHER.write(before=before, after=before.with_edits(edits)) is None


def test_every_flavor_of_the_table_has_the_parameters_that_torchtitan_counted():
    known = 0
    for version in (*FILE_VERSIONS, MODULE_VERSION):
        for flavors in table(version)["models"].values():
            for entry in flavors.values():
                if "model" in entry:
                    found = find_model(entry["model"])
                    assert found is not None
                    count = found.num_params
                elif "config" in entry:
                    count = describe(entry["config"], "", "").num_params
                else:
                    continue
                known += 1

                assert abs(count - entry["num_params"]) <= entry["num_params"] // 1000

    assert known > 40


def test_every_named_config_is_read_without_an_error():
    total = 0
    for module, configs in table(MODULE_VERSION)["configs"].items():
        for name, entry in configs.items():
            shards = entry["parallelism"]["data_parallel_shard_degree"]
            ranks = 8 if shards < 0 else shards
            plan = read(
                f"torchrun --nproc_per_node {ranks} -m torchtitan.train --module {module} --config {name}"
            )
            total += 1

            assert plan.micro_batch_size and plan.seq_len, name

    assert total == 43


def test_a_model_made_on_the_meta_device_is_never_whole_on_the_host():
    plan = read(CASES["llama_8b"]["argv"])
    entry = find_model("meta-llama/Llama-3.1-8B")
    assert entry is not None
    model = describe(entry.config, entry.id, "")

    def names(plan: LaunchPlan) -> str:
        return " ".join(term.name for term in memory_host.preflight_memory_terms(plan, model))

    assert "copies before sharding" not in names(plan)
    assert "copies before sharding" in names(replace(plan, trainer="transformers"))


@pytest.mark.parametrize(
    ("name", "how"), [("llama_8b", "--training.seq_len 4096"), ("named", "--training.seq_len 4096")]
)
def test_a_shorter_sequence_is_suggested_in_torchtitans_words(name, how):
    remedies = list(remedy_seq_len.preflight_remedies(plan=read(CASES[name]["argv"])))

    assert remedies[0].how == how


RUN_TRAIN = """\
#!/usr/bin/bash
set -ex
NGPU=${NGPU:-"8"}
export LOG_RANK=${LOG_RANK:-0}
MODULE=${MODULE:-"llama3"}
CONFIG=${CONFIG:-"llama3_8b"}
COMM_MODE=${COMM_MODE:-""}
if [ -n "$COMM_MODE" ]; then
    echo "comm_mode=${COMM_MODE}"
    NGPU="${NGPU}" LOCAL_RANK=0 python3 -m torchtitan.train --module ${MODULE} --config ${CONFIG} "$@" \\
        --comm.mode=${COMM_MODE}
else
    # Ranks of this node.
    PYTORCH_ALLOC_CONF="expandable_segments:True" \\
    LIGHTHOUSE=${LIGHTHOUSE} \\
    torchrun --nproc_per_node=${NGPU} --rdzv_backend c10d --rdzv_endpoint="localhost:0" \\
    --local-ranks-filter ${LOG_RANK} --role rank --tee 3 \\
    -m torchtitan.train --module ${MODULE} --config ${CONFIG} "$@"
fi
"""


def scripted(tmp_path, words, **env):
    (tmp_path / "run_train.sh").write_text(RUN_TRAIN)
    argv = tuple(shlex.split(words))
    plan = LAUNCHER.read(LaunchCommand(argv, env, str(tmp_path)))
    assert plan is not None
    return plan


def test_the_script_is_followed_into_the_branch_that_its_variables_choose(tmp_path):
    plan = scripted(tmp_path, "./run_train.sh --training.local_batch_size 3", NGPU="4")
    again = scripted(tmp_path, "bash ./run_train.sh", CONFIG="llama3_70b")

    assert (plan.world_size, plan.micro_batch_size, plan.expandable_segments) == (4, 3, True)
    assert (again.world_size, again.num_nodes) == (8, 1)
    assert (plan.model, again.model) == ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B")


def test_a_remedy_is_written_behind_the_words_of_the_script(tmp_path):
    before = scripted(tmp_path, "./run_train.sh --training.local_batch_size 4")
    after = before.with_edits({"micro_batch_size": 2})
    rewrite = LAUNCHER.write(before=before, after=after)

    assert rewrite is not None
    assert rewrite.argv[:3] == ("./run_train.sh", "--training.local_batch_size", "2")


def test_ranks_that_one_process_simulates_are_not_priced(tmp_path):
    plan = scripted(tmp_path, "./run_train.sh", COMM_MODE="fake_backend", NGPU="32")

    assert plan.world_size == 1
    assert "ranks that one process simulates" in [n.unpriced for n in plan.notices]


def test_the_module_is_read_without_a_launcher_too(tmp_path):
    words = "python3 -m torchtitan.train --module llama3 --config llama3_8b"
    alone = scripted(tmp_path, words)
    simulating = scripted(tmp_path, f"{words} --comm.mode=fake_backend", LOCAL_RANK="0")
    of_several = scripted(tmp_path, words, LOCAL_RANK="1", RANK="1", WORLD_SIZE="4")

    assert (alone.launcher, alone.model) == ("torchtitan", "meta-llama/Llama-3.1-8B")
    assert (alone.world_size, simulating.world_size, of_several.world_size) == (1, 1, 4)
    named = "ranks that one process simulates"
    assert [named in {n.unpriced for n in p.notices} for p in (alone, simulating)] == [False, True]


def test_a_key_that_only_the_working_copy_may_have_is_not_refused(tmp_path):
    (tmp_path / "torchtitan").mkdir()
    (tmp_path / "torchtitan" / "train.py").write_text("")
    plan = scripted(tmp_path, "./run_train.sh --training.tokens_of_tomorrow 3")
    (said,) = [notice for notice in plan.notices if "tokens_of_tomorrow" in notice.message]

    assert said.severity == "warning" and said.unpriced
    (tmp_path / "torchtitan" / "train.py").unlink()
    with pytest.raises(BadInput, match=r"has no training\.tokens_of_tomorrow"):
        scripted(tmp_path, "./run_train.sh --training.tokens_of_tomorrow 3")


def test_a_job_that_calls_the_script_starts_what_it_starts(tmp_path):
    (tmp_path / "run_train.sh").write_text(RUN_TRAIN)
    job = "export NGPU=2\nexport MODULE=llama3\n./run_train.sh --training.steps 5\n"
    (launch,) = read_script(job, "job.sh", (), {}, str(tmp_path)).launches
    plan = LAUNCHER.read(LaunchCommand(launch.argv, dict(launch.env), str(tmp_path)))

    assert plan is not None and plan.world_size == 2


@pytest.mark.parametrize(("length", "is_named"), [(4096, False), (16384, True)])
def test_rows_of_a_validation_that_are_longer_are_named(tmp_path, length, is_named):
    (tmp_path / "c.toml").write_text(
        '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 1\nseq_len = 8192\n'
        f"[validation]\nenable = true\nseq_len = {length}\n"
    )
    argv = [
        "torchrun",
        "--nproc_per_node",
        "8",
        "-m",
        "torchtitan.train",
        "--job.config_file",
        "c.toml",
    ]
    plan = LAUNCHER.read(LaunchCommand(tuple(argv), {}, str(tmp_path)))
    assert plan is not None

    assert ("longer rows in a validation" in {n.unpriced for n in plan.notices}) is is_named


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--module deepseek_v3 --config deepseek_v3_16b", [SENT_TOKENS]),
        ("--module deepseek_v3 --config deepseek_v3_16b_hybridep", [SENT_TOKENS, "buffers of HybridEP"]),
        ("--module qwen3 --config qwen3_moe_deepep", [SENT_TOKENS, "buffers of DeepEP"]),
        ("--module deepseek_v3 --config deepseek_v3_debugmodel_hybridep", []),
    ],
)  # fmt: skip
def test_what_sends_tokens_is_named_where_it_keeps_buffers(tmp_path, flags, named):
    plan = scripted(tmp_path, f"torchrun --nproc_per_node 8 -m torchtitan.train {flags}")
    found = [n.unpriced for n in plan.notices if n.unpriced and n.unpriced != CUDA_GRAPH]

    assert found == named


def test_the_dispatcher_of_a_file_is_one_too(tmp_path):
    (tmp_path / "moe.toml").write_text(
        '[model]\nname = "deepseek_v3"\nflavor = "16B"\n[parallelism]\nexpert_parallel_degree = 4\nexpert_parallel_comm_backend = "deepep"\n'
    )
    plan = scripted(
        tmp_path, "torchrun --nproc_per_node 8 -m torchtitan.train --job.config_file moe.toml"
    )

    assert "buffers of deepep" in [n.unpriced for n in plan.notices]


@pytest.mark.parametrize(("device", "refuses"), [("h100-sxm-80", True), ("b200-sxm-180", False)])
@pytest.mark.parametrize("name", ["llama3_8b_mxfp8", "llama3_debugmodel_nvfp4", "llama3_8b"])
def test_a_converter_refuses_an_older_device(tmp_path, device, refuses, name):
    words = f"torchrun --nproc_per_node 8 -m torchtitan.train --module llama3 --config {name}"
    report = preflight.check(words.split(), device=device, cwd=tmp_path, env={})
    ids = [finding.id for finding in report.findings if finding.severity == "error"]

    assert ids == (["PF448"] if refuses and name != "llama3_8b" else [])
