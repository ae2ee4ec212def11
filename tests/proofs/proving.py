"""Starts a training as written and as a remedy rewrites it, and compares what both learned."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from fork_client import HOST
from harness import HERE as LAUNCHES
from harness import TINY_LLAMA, Launched, Workplace, environment, launch

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugins import load_plugins
from preflight.remedy import Remedy
from preflight.rewrite import Rewrite, save_rewrite
from preflight.rewriting import read_launch, write_checked

if TYPE_CHECKING:
    from table import Proof

HERE = Path(__file__).parent
NUM_STEPS = 20
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "tiny-dropout": {"attention_dropout": 0.1},
    "tiny-bf16": {"dtype": "bfloat16"},
}
"""Folder -> what its config.json has beside the shape. All have the same weights, before rounding."""
UNSEEN = {"optimizer_kernel", "wrap_min_num_params", "state_dict_type", "cpu_ram_efficient_loading"}
"""Plan fields that say how a model was loaded or is saved, or that another field replaces: no rank shows them."""
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
    "tie_word_embeddings": False,
}


def make_proving_ground(path: Path) -> Workplace:
    """Copy scripts and configs into a folder and make the models there."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path.mkdir(parents=True)
    for file in (
        *sorted((LAUNCHES / "configs").iterdir()),
        *sorted((HERE / "configs").iterdir()),
        *sorted((HERE / "scripts").glob("*.py")),
        TINY_LLAMA / "tiny_data.py",
    ):
        shutil.copy(file, path)
    for name, more in MODELS.items():
        torch.manual_seed(0)
        config = LlamaConfig(**SHAPE, **{k: v for k, v in more.items() if k != "dtype"})
        model = LlamaForCausalLM(config).to(getattr(torch, more.get("dtype", "float32")))
        model.save_pretrained(path / name)
    return Workplace(path)


@dataclass(frozen=True)
class Training:
    """One launch as a user types it."""

    name: str
    launcher: str
    """Everything before the script: `accelerate launch --config_file fsdp2.yaml`."""
    script: str
    """The script and what differs from the arguments that all share."""
    model: str = "tiny"

    @property
    def averages_micro_steps(self) -> bool:
        """Tell a loop of one's own from the Trainer, which divides by the tokens of the whole batch."""
        return self.script.startswith("train_loop.py")

    def argv(self) -> tuple[str, ...]:
        """Return the command; relative paths, as in the folder of the scripts."""
        script, _, arguments = self.script.partition(" ")
        common = f"--model_name_or_path {self.model} --max_length 32 --max_steps {NUM_STEPS}"
        if not self.averages_micro_steps:
            common += (
                " --output_dir out --report_to none --save_strategy no --learning_rate 3e-3"
                " --lr_scheduler_type constant"
            )
        return tuple(shlex.split(f"{self.launcher} {script} {common} {arguments}"))


@dataclass(frozen=True)
class Trained:
    """What a training left: losses of every rank and micro step, evaluations, whole weights."""

    launched: Launched
    losses: tuple[tuple[float, ...], ...]
    weights: Mapping[str, numpy.ndarray]

    def step_losses(self, averages: bool) -> numpy.ndarray:
        """Return the loss of each optimizer step over all ranks; micro steps add up, or average."""
        by_rank = numpy.array(self.losses, dtype=numpy.float64)
        by_step = by_rank.reshape(by_rank.shape[0], NUM_STEPS, -1)
        return (by_step.mean(axis=2) if averages else by_step.sum(axis=2)).mean(axis=0)

    @property
    def eval_losses(self) -> numpy.ndarray:
        return numpy.array(self.launched.ranks[0]["eval_losses"])


@dataclass(frozen=True)
class Difference:
    """How far two trainings are apart."""

    loss: float
    """The largest difference of a step's loss, as a share of it."""
    weights: float
    """The distance of the final weights, as a share of the way that they went from their start."""
    is_bit_equal: bool
    """Whether every rank's loss of every micro step and every final weight has the same bits."""
    eval_loss: float = 0.0


@dataclass(frozen=True)
class Rewritten:
    """A training after a remedy, in the plan's words and as a command."""

    remedy: Remedy
    before: LaunchPlan
    after: LaunchPlan
    rewrite: Rewrite


@dataclass(frozen=True)
class Measured:
    """What came of a proof."""

    rewritten: Rewritten
    difference: Difference
    unreached: Mapping[str, tuple[Any, Any]]
    """Edited plan fields that the ranks show differently: (asked for, got)."""


@dataclass
class Prover:
    """Starts trainings in one folder; a launch that was started before is not started again."""

    ground: Workplace
    folder: Path
    fork_host: str
    """Where launchers and ranks are forked that have their libraries imported."""
    trained: dict[Any, Trained] = field(default_factory=dict)
    num_launches: int = 0

    def __post_init__(self) -> None:
        self.plugins = load_plugins()

    def measure(self, proof: Proof) -> Measured:
        """Train as written and as rewritten, and compare."""
        training = proof.training
        before = self.train(training.argv(), {})
        rewritten = self.rewritten(training, proof.remedy, proof.wanted, proof.scaled)
        after = self.train(rewritten.rewrite.argv, rewritten.rewrite.env)
        asked = {**rewritten.remedy.edits, **proof.scaled}
        shown = [{**rank["settings"], **rank["plan"]} for rank in after.launched.ranks]
        unreached = {
            name: (value, rank.get(name))
            for rank in shown
            for name, value in asked.items()
            if name not in UNSEEN and rank.get(name) != value
        }
        return Measured(rewritten, self.difference(training, before, after), unreached)

    def train(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Trained:
        """Start a command, or return what it left when it was started before."""
        key = (argv, tuple(sorted(env.items())))
        if key not in self.trained:
            self.num_launches += 1
            probe_dir = self.folder / f"probe-{self.num_launches}"
            variables = {**env, "PREFLIGHT_TEST_WEIGHTS": "1", HOST: self.fork_host}
            launched = launch(list(argv), self.ground, probe_dir, variables=variables)
            assert launched.exit_code == 0, f"{shlex.join(argv)}\n{launched.stderr[-12000:]}"
            with numpy.load(probe_dir / "weights.npz") as weights:
                self.trained[key] = Trained(
                    launched,
                    tuple(tuple(rank["losses"]) for rank in launched.ranks),
                    dict(weights),
                )
        return self.trained[key]

    def plan_of(self, training: Training) -> LaunchPlan:
        """Read a launch as preflight reads it."""
        env = environment(self.folder / "unused", "read", is_probed=False)
        command = LaunchCommand(training.argv(), env, str(self.ground.path))
        plan = read_launch(command, self.plugins)
        assert plan is not None
        return plan

    def remedies(self, plan: LaunchPlan, id: str) -> list[Remedy]:
        """Return what a lever offers for a plan."""
        model = self.plugins.first("preflight_describe_model", plan=plan)
        offered = self.plugins.collect("preflight_remedies", plan=plan, model=model)
        return [remedy for _, remedy in offered if remedy.id == id]

    def rewritten(
        self, training: Training, id: str, wanted: Mapping[str, Any], scaled: Mapping[str, Any]
    ) -> Rewritten:
        """Let preflight write one lever into a launch; `scaled` are its sizes in proportion to the model."""
        plan = self.plan_of(training)
        offered = self.remedies(plan, id)
        found = [r for r in offered if wanted.items() <= r.edits.items()]
        assert found, f"{id} is not offered with {wanted}: {[dict(r.edits) for r in offered]}"
        remedy = found[0]
        assert scaled.keys() <= remedy.edits.keys()
        after = plan.with_edits({**remedy.edits, **scaled})
        rewrite = write_checked(plan, after, self.plugins)
        assert rewrite is not None, f"{remedy.title}: cannot be written"
        save_rewrite(rewrite)
        return Rewritten(remedy, plan, after, rewrite)

    def difference(self, training: Training, before: Trained, after: Trained) -> Difference:
        """Compare two trainings of the same batches."""
        averages = training.averages_micro_steps
        old, new = before.step_losses(averages), after.step_losses(averages)
        start = self._start(training.model)
        # An adapter's weights start near zero, and are in no checkpoint.
        way = sum(_square(w - start.get(name, 0)) for name, w in before.weights.items())
        apart = sum(_square(w - after.weights[name]) for name, w in before.weights.items())
        equal_weights = all((w == after.weights[name]).all() for name, w in before.weights.items())
        old_evals, new_evals = before.eval_losses, after.eval_losses
        evals = float(abs(new_evals / old_evals - 1).max()) if len(old_evals) else 0.0
        return Difference(
            loss=float(abs(new / old - 1).max()),
            weights=float((apart / way) ** 0.5),
            is_bit_equal=bool(equal_weights and before.losses == after.losses),
            eval_loss=evals,
        )

    def _start(self, model: str) -> dict[str, numpy.ndarray]:
        from safetensors.torch import load_file

        tensors = load_file(self.ground.path / model / "model.safetensors")
        return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _square(difference: numpy.ndarray) -> float:
    return float((difference.astype(numpy.float64) ** 2).sum())
