"""Defaults of transformers and TRL that memory depends on and that moved between versions.

Each row was read in the released package of the version named in it and of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from preflight.scripts.trainer_tables import table_versions
from preflight.values import dataclass


class DefaultChange(NamedTuple):
    """From this version on, a name stands for this default."""

    library: str
    name: str
    since: tuple[int, ...]
    value: Any
    source: str


DEFAULT_CHANGES: tuple[DefaultChange, ...] = (
    # from_pretrained without a dtype
    DefaultChange("transformers", "load_dtype", (0,), "float32", "torch's default dtype"),
    DefaultChange("transformers", "load_dtype", (5,), "auto", "modeling_utils.py: None means auto"),
    # The default with torch 2.8 or newer; adamw_torch with an older torch.
    DefaultChange("transformers", "optim", (0,), "adamw_torch", "training_args.py, 4.53.3"),
    DefaultChange(
        "transformers", "optim", (4, 54), "adamw_torch_fused", "training_args.py, 4.54.1"
    ),
    # TRL's model loading (ModelConfig, and a model given to a trainer by name)
    DefaultChange("trl", "load_dtype", (0,), None, "model_config.py: transformers' own default"),
    DefaultChange("trl", "load_dtype", (0, 27), "float32", "model_config.py, 0.27.2"),
    DefaultChange("trl", "bf16", (0,), False, "sft_config.py, 0.18.2"),
    DefaultChange("trl", "bf16", (0, 19), None, "sft_config.py, 0.19.1: on unless fp16"),
    DefaultChange("trl", "gradient_checkpointing", (0,), False, "sft_config.py, 0.21.0"),
    DefaultChange("trl", "gradient_checkpointing", (0, 22), True, "sft_config.py, 0.22.2"),
    DefaultChange("trl", "loss", (0,), "model", "sft_trainer.py: the model's own loss"),
    DefaultChange("trl", "loss", (1, 7), "chunked_unless_liger", "sft_config.py, 1.7.1"),
    DefaultChange(
        "trl", "loss", (1, 15), "fused_head", "sft_trainer.py, 1.15.0: add_fused_lm_head"
    ),
    # bnb_4bit_quant_storage: not set, then the model dtype, then an argument of its own
    DefaultChange("trl", "quant_storage", (0,), "uint8", "trainer/utils.py, 0.9.6"),
    DefaultChange("trl", "quant_storage", (0, 12), "model_dtype", "trainer/utils.py, 0.12.2"),
    DefaultChange("trl", "quant_storage", (0, 26), "argument", "model_config.py, 0.26.0"),
    # What happens to the unquantized parameters of a quantized base
    DefaultChange("trl", "kbit_preparation", (0,), None, "sft_trainer.py calls PEFT's"),
    DefaultChange("trl", "kbit_preparation", (0, 26), "none", "sft_trainer.py, 0.26.0: none"),
)


@dataclass(frozen=True)
class LibraryVersions:
    """The versions whose defaults hold, and whether they are those of the installed libraries."""

    installed: Mapping[str, str]
    """By import name; a library that is missing is taken to be the newest that we know."""

    def of(self, library: str) -> str:
        """Return the version whose defaults are used for a library."""
        return self.installed.get(library) or table_versions()[library]

    def is_installed(self, library: str) -> bool:
        return bool(self.installed.get(library))

    def is_tabled(self, library: str) -> bool:
        """Tell whether the argument table was derived from this very minor version of the installed library."""
        version = self.installed.get(library)
        return bool(version) and parse(version or "")[:2] == parse(table_versions()[library])[:2]

    def label(self, library: str) -> str:
        """Return `transformers 5.24.0` for an origin."""
        return f"{library} {self.of(library)}"

    def reason(self, library: str) -> str:
        """Return why this version is taken, where it is not the installed one."""
        if self.is_installed(library):
            return ""
        return f"{library} is not installed here; the version on the nodes decides"

    def default(self, library: str, name: str) -> Any:
        """Return the default that holds for this version."""
        return default_of(library, name, self.of(library))

    def default_optimizer(self) -> str:
        """Return the Trainer's optimizer when none is named: it depends on torch too."""
        optimizer: str = self.default("transformers", "optim")
        torch = self.installed.get("torch")
        if torch and parse(torch) < (2, 8):
            return "adamw_torch"
        return optimizer


def default_of(library: str, name: str, version: str) -> Any:
    """Return the value of the last change up to a version."""
    value = None
    for change in DEFAULT_CHANGES:
        if (change.library, change.name) == (library, name) and change.since <= parse(version):
            value = change.value
    return value


def parse(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `2.13.0+cpu` -> (2, 13, 0)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
