"""Defaults of transformers and TRL that memory depends on and that moved between versions."""

from __future__ import annotations

from typing import Any

from preflight.libraries.resolve import Libraries
from preflight.scripts.arguments.trainer_tables import table_versions
from preflight.values import NamedTuple, dataclass
from preflight.versions import transformers, trl, trl_online, trl_pairs, trl_preparation
from preflight.versions.boundary import Boundary, has_begun, release
from preflight.versions.torch import IS_NEW_FOR_FUSED_ADAMW


class DefaultChange(NamedTuple):
    """From this release on, a name stands for this default."""

    library: str
    name: str
    since: Boundary | None
    """None: from the beginning."""
    value: Any


DEFAULT_CHANGES: tuple[DefaultChange, ...] = (
    # from_pretrained without a dtype
    DefaultChange("transformers", "load_dtype", None, "float32"),  # torch's default dtype
    DefaultChange("transformers", "load_dtype", transformers.LOADS_CHECKPOINTS_DTYPE, "auto"),
    # The default with torch 2.8 or newer; adamw_torch with an older torch.
    DefaultChange("transformers", "optim", None, "adamw_torch"),
    DefaultChange(
        "transformers", "optim", transformers.DEFAULTS_TO_FUSED_ADAMW, "adamw_torch_fused"
    ),
    # TRL's model loading (ModelConfig, and a model given to a trainer by name)
    DefaultChange("trl", "load_dtype", None, None),  # transformers' own default
    DefaultChange("trl", "load_dtype", trl.LOADS_FP32, "float32"),
    DefaultChange("trl", "bf16", None, False),
    DefaultChange("trl", "bf16", trl.DEFAULTS_TO_BF16, None),  # on unless fp16
    DefaultChange("trl", "gradient_checkpointing", None, False),
    DefaultChange("trl", "gradient_checkpointing", trl.DEFAULTS_TO_CHECKPOINTING, True),
    DefaultChange("trl", "loss", None, "model"),  # the model's own loss
    DefaultChange("trl", "loss", trl.CHUNKS_LOSS, "chunked_unless_liger"),
    DefaultChange("trl", "loss", trl.FUSES_HEAD, "fused_head"),
    # pairs of answers; None: nothing is cut
    DefaultChange("trl", "max_length of dpo", None, 512),
    DefaultChange("trl", "max_length of dpo", trl_pairs.DPO_CUTS_NOTHING, None),
    DefaultChange("trl", "max_length of dpo", trl_pairs.CUTS_PAIRS_AT_1024, 1024),
    DefaultChange("trl", "max_length of pairs", None, 512),
    DefaultChange("trl", "max_length of pairs", trl_pairs.CUTS_PAIRS_AT_1024, 1024),
    # GRPO and RLOO
    DefaultChange("trl", "beta", None, 0.04),
    DefaultChange("trl", "beta", trl.COMPARES_WITH_NOTHING, 0.0),
    DefaultChange("trl", "vllm_mode", None, "server"),
    DefaultChange("trl", "vllm_mode", trl.COLOCATES, "colocate"),
    DefaultChange("trl", "max_prompt_length", None, 512),
    DefaultChange("trl", "max_prompt_length", trl.LEAVES_PROMPTS, None),
    DefaultChange("trl", "max_completion_length", None, 256),
    DefaultChange("trl", "max_completion_length", trl.COMPLETES_512, 512),
    # bnb_4bit_quant_storage: not set, then the model dtype, then an argument of its own
    DefaultChange("trl", "quant_storage", None, "uint8"),
    DefaultChange("trl", "quant_storage", trl.STORES_AS_MODEL_DTYPE, "model_dtype"),
    DefaultChange("trl", "quant_storage", trl.HAS_QUANT_STORAGE, "argument"),
)


READ_BY_RELEASE: tuple[Boundary, ...] = (
    *(change.since for change in DEFAULT_CHANGES if change.since is not None),
    *trl_preparation.BOUNDARIES,
    IS_NEW_FOR_FUSED_ADAMW,
    trl.CORRECTS_SAMPLING,
    trl_online.GENERATES_FOR_A_STEP,
    trl_online.NEEDS_NO_REFERENCE,
    trl_online.SERVES_ENGINE,
    trl.FUSES_LOGPROBS,
    trl.IGNORES_PROMPT_LENGTH,
    trl.LIGER_KERNEL_IS_LOSS,
    trl_pairs.CUTS_PROMPTS_AT_512,
    trl_pairs.DPO_CUTS_ANSWERS,
    trl_pairs.DPO_HAS_PADDING_FREE,
    trl_pairs.DPO_KEEPS_REFERENCE,
    trl_pairs.DPO_LOADS_REFERENCE,
    trl_pairs.DPO_TAKES_ENTROPY,
    trl_pairs.PRM_CUTS_PROMPTS,
    trl_pairs.SCRIPT_LOADS_POLICY,
    transformers.TRAINER_HOLDS_PRECISION,
    transformers.READS_FSDP_VERSION,
    transformers.DEFAULTS_TO_FSDP2,
)
"""Every change that a reader of arguments and engines asks for: between releases on the same sides it reads the same."""


@dataclass(frozen=True)
class LibraryVersions:
    """The versions whose defaults hold, and whether somebody says them."""

    libraries: Libraries = Libraries()

    def of(self, library: str) -> str:
        """Return the version whose defaults are used for a library."""
        return self.libraries.version(library)

    def is_known(self, library: str) -> bool:
        """Tell whether somebody says the version of a library."""
        return self.libraries.is_known(library)

    def is_tabled(self, library: str) -> bool:
        """Tell whether the launch will have the very minor version that the argument table was derived from."""
        table = release(table_versions()[library])
        return self.libraries.is_known(library) and release(self.of(library))[:2] == table[:2]

    def label(self, library: str) -> str:
        """Return `transformers 5.24.0` for an origin."""
        return f"{library} {self.of(library)}"

    def reason(self, library: str) -> str:
        """Return why this version is taken, where nobody says it."""
        return self.libraries.of(library).origin.reason

    def default(self, library: str, name: str) -> Any:
        """Return the default that holds for this version."""
        return default_of(library, name, self.of(library))

    def default_optimizer(self) -> str:
        """Return the Trainer's optimizer when none is named: it depends on torch too."""
        optimizer: str = self.default("transformers", "optim")
        is_new = IS_NEW_FOR_FUSED_ADAMW.holds_in({"torch": self.of("torch")})
        return optimizer if is_new else "adamw_torch"


def default_of(library: str, name: str, version: str) -> Any:
    """Return the value of the last change up to a version."""
    value = None
    for change in DEFAULT_CHANGES:
        is_asked = (change.library, change.name) == (library, name)
        if is_asked and has_begun(change.since, {library: version}):
            value = change.value
    return value
