"""PF13x: what stands around the launcher, and how its ranks start."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

RANKS: dict[str, FindingKind] = {
    "PF130": FindingKind(
        name="behind-a-wrapper",
        severity="info",
        proof_kind="reading",
        trigger="a launcher in a container (`docker run`, `apptainer exec`, pyxis) or in an environment that is not on this machine (`conda run -n`, `uv run`, `source .../bin/activate`)",
        effect="files of the image are not seen, those of this machine are taken; library versions are those that the repository pins, and where it pins none, several",
        fix="put preflight in front of the launcher, inside the container or the environment, or say the versions with `--set versions.NAME=VERSION`",
        proof=("tests/shell/test_wrappers.py::test_what_is_not_seen_through_a_wrapper_is_said",),
    ),
    "PF131": FindingKind(
        name="shell-text",
        severity="error",
        proof_kind="reading",
        trigger="a launch inside `bash -c`, `srun` or another program whose text preflight cannot follow to the end: loops, conditions, two launches, an unknown option; or, as a note, commands in front of the launcher and variables that only the running shell can fill in",
        effect="preflight cannot tell what is started, and checks nothing rather than something else",
        fix="put preflight in front of the launcher, inside the quotes",
        proof=(
            "tests/shell/test_wrappers.py::test_what_cannot_be_followed_is_said",
            "tests/shell/test_wrappers.py::test_what_is_not_seen_through_a_wrapper_is_said",
        ),
    ),
    "PF132": FindingKind(
        name="elastic-nodes",
        severity="info",
        proof_kind="reading",
        trigger="torchrun `--nnodes MIN:MAX`: nodes may join and leave",
        effect="the fewer ranks share the model states, the more each holds, so the estimate is for MIN nodes (config_from_args in torch/distributed/run.py, 2.13)",
        fix="`--nnodes N` where the number of nodes is known",
        proof=("tests/launchers/test_torchrun.py::test_ranks_are_those_of_torch",),
    ),
    "PF133": FindingKind(
        name="deepspeed-without-config",
        severity="warning",
        proof_kind="silent",
        trigger="the `deepspeed` launcher starts a script, and no argument of it names a DeepSpeed config; it says so where the script calls `deepspeed.initialize` with a config of its own, whose stage is then open",
        effect="the launcher starts ranks and nothing else: Trainer trains with plain DDP, every rank holding all model states",
        fix="`--deepspeed ds.json` behind the script's name",
        proof=(
            "tests/launches/test_launchers.py::test_a_deepspeed_launcher_without_a_config_trains_with_plain_ddp",
        ),
    ),
    "PF134": FindingKind(
        name="variable-not-exported",
        severity="warning",
        proof_kind="silent",
        trigger="a variable that decides memory, set in the shell of a `deepspeed` launch over several nodes",
        effect="ranks get only variables that start with MLFLOW, PYTHON, MV2, UCX or NCCL, and those of `.deepspeed_env` (main in deepspeed/launcher/runner.py, 0.19.8)",
        fix="a line NAME=VALUE in `.deepspeed_env`, in the home folder or the folder of the launch",
        proof=(
            "tests/launchers/test_deepspeed_launcher.py::test_the_variables_of_several_nodes_are_those_that_deepspeed_exports",
        ),
    ),
    "PF135": FindingKind(
        name="independent-copies",
        severity="warning",
        proof_kind="silent",
        trigger="`srun` with several tasks starts `python train.py` without LOCAL_RANK and RANK",
        effect="accelerate and transformers make a process group only where LOCAL_RANK is set (accelerate/state.py, 1.15): every task trains the whole model alone, and rank 0 of each writes the same files",
        fix="one task per node with torchrun in it, or export RANK, LOCAL_RANK and WORLD_SIZE from Slurm's variables",
        proof=(
            "tests/launchers/test_python.py::test_accelerate_makes_a_group_only_where_local_rank_is_set",
        ),
    ),
    "PF136": FindingKind(
        name="data-parallel-in-one-process",
        severity="warning",
        proof_kind="silent",
        trigger="one process with several visible GPUs and transformers' or TRL's trainer",
        effect="Trainer wraps the model in nn.DataParallel: a step takes the micro batch once per GPU, and the first GPU holds the model states and gathers the outputs of all; TRL's trainers stop with `does not support nn.DataParallel` unless device_map spread the model",
        fix="torchrun or accelerate launch with a rank per GPU, or CUDA_VISIBLE_DEVICES with one",
        proof=(
            "tests/launchers/test_python.py::test_trainer_takes_data_parallel_for_what_one_process_sees",
        ),
    ),
    "PF137": FindingKind(
        name="one-cpu-thread-per-rank",
        severity="warning",
        proof_kind="silent",
        trigger="the optimizer steps on the CPU (DeepSpeed's optimizer offload, FSDP's parameter offload), several ranks on a node, and OMP_NUM_THREADS is not set",
        effect="torchrun sets it to 1 (torch/distributed/run.py:872, 2.13), accelerate to --num_cpu_threads_per_process, 1 by default (accelerate/commands/launch.py:1365, 1.15): each rank's CPU step runs on one core",
        fix="OMP_NUM_THREADS=CPUs of the node / ranks of the node",
        proof=(
            "tests/node/test_node_refusals.py::test_torchrun_gives_each_of_several_ranks_one_thread",
        ),
    ),
    "PF139": FindingKind(
        name="uneven-nodes",
        severity="info",
        proof_kind="reading",
        trigger="a `deepspeed` launch whose hosts have different numbers of slots",
        effect="DeepSpeed starts that many ranks on each; host memory is estimated for an even split, and the fuller node needs more",
        fix="the same number of slots for every host",
        proof=("tests/hooks/test_checks.py::test_nodes_with_different_numbers_of_ranks_are_told",),
    ),
}
