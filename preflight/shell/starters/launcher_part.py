"""What a launcher decided before the training script starts: the half of a launch that each dialect reads for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.launch import Origin, RankFacts
from preflight.plan_choices import OPEN_VALUES
from preflight.setting import Place, Setting
from preflight.values import dataclass

DISTRIBUTED_MODES = ("fsdp", "deepspeed", "multi_gpu")
DEFAULT_PORT = 29500
"""Where ranks meet unless somebody says otherwise: torch/distributed/run.py, accelerate/utils/launch.py and
deepspeed/launcher/constants.py have the same."""
UNSAID_RANKS = Origin("nobody", True, "nobody said how many ranks start", OPEN_VALUES["world_size"])
READ_PREFIXES = ("FSDP_", "ACCELERATE_", "PARALLELISM_CONFIG_")
"""Variables that accelerate and transformers read inside a worker."""


@dataclass(frozen=True)
class LauncherPart:
    """Ranks, mode and the workers' environment, with what the writer needs to find the words again."""

    name: str
    """The plan's `launcher`: accelerate, torchrun, deepspeed, python, ..."""
    first_option: int
    """argv index of the first launcher option."""
    script_index: int
    """argv index of the training script (or of the module after -m); len(argv) where there is none."""
    ranks: Mapping[str, Setting]
    """world_size and num_nodes."""
    mode: str
    """single (no process group), multi_gpu, fsdp or deepspeed: what trains unless the script says otherwise."""
    mode_place: Place
    env: Mapping[str, Setting] = field(default_factory=dict)
    """Variable -> text as every worker sees it, for READ_PREFIXES."""
    variables: Mapping[str, str] | None = None
    """What reaches the ranks of the caller's variables, where it is not all of them."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Plan field -> origin, where a place does not say enough: what was assumed, and why."""
    documents: Mapping[str, str] = field(default_factory=dict)
    """Role -> path as spelled, of the launcher's own files."""
    rank_facts: RankFacts = field(default_factory=RankFacts)
    """How the ranks find each other and which devices they see, as far as the launcher was told."""
    is_default_config: bool = False
    """Whether the launcher's file is accelerate's own default one, which no word of the command names."""
    profile: str | None = None
    """The name by which TRL knows the launcher's file, where it is one of its own."""
    file_index: int | None = None
    """argv index of a framework's config file."""
    overrides: Mapping[str, int | None] = field(default_factory=dict)
    """Key of a framework's config -> argv index of the word that beats it."""
    has_engine_options: bool = False
    """Whether FSDP and DeepSpeed can be set by options in front of the script, as accelerate's launcher has them."""
    own: object = None
    """What this launcher's own writer needs beside all this."""

    @property
    def is_distributed(self) -> bool:
        """True where ranks meet in a process group, even a single one."""
        return self.mode in DISTRIBUTED_MODES

    @property
    def has_open_ranks(self) -> bool:
        """True where the GPUs of the nodes decide how many ranks start, and this machine shows none."""
        ranks = self.origins.get("world_size")
        return ranks is not None and len(ranks.may_be) > 1

    @property
    def may_be_distributed(self) -> bool:
        """True where ranks meet in a process group, or may do so on the nodes."""
        return self.is_distributed or self.has_open_ranks

    @property
    def mixed_precision(self) -> Setting:
        """The launcher's or the shell's mixed precision; `no` by default."""
        default = Setting("no", Place("default", "", "accelerate"))
        return self.env.get("ACCELERATE_MIXED_PRECISION", default)


def caller_environment(env: Mapping[str, str]) -> dict[str, Setting]:
    """Return the variables of the caller that accelerate and transformers read in a worker."""
    return {
        name: Setting(text, Place("env", "", name))
        for name, text in env.items()
        if name.startswith(READ_PREFIXES)
    }
