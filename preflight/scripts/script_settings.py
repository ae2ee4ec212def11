"""What a training script says about itself: the arguments of the calls that decide memory."""

from __future__ import annotations

from dataclasses import field

from preflight.scripts.scope import UNKNOWN, Known
from preflight.setting import Place
from preflight.values import dataclass


@dataclass
class ScriptSettings:
    """Argument name (the Trainer's, TRL's ModelConfig's) -> value; and what was seen and could not be read."""

    arguments: dict[str, Known] = field(default_factory=dict)
    unread: dict[str, Place] = field(default_factory=dict)
    """Argument -> where it is set to something that cannot be known without running the script."""
    seen: dict[str, Place] = field(default_factory=dict)
    """trainer_arguments, lora, quantization, model, accelerator, fsdp_plugin, deepspeed_plugin -> the call."""
    device_map: Known | None = None
    fsdp_plugin: dict[str, Known] = field(default_factory=dict)

    def put(self, name: str, known: Known) -> None:
        """Record an argument; what is not known is noted as such."""
        if known.value is UNKNOWN:
            self.arguments.pop(name, None)
            self.unread.setdefault(name, known.place)
        else:
            self.arguments[name] = known
            self.unread.pop(name, None)
