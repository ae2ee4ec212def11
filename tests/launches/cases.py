"""The launches that the tests start: one per engine, with Trainer, TRL and a loop of one's own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from harness import LAUNCH, Workplace

_BY_SCRIPT = {
    "train_trainer.py": "--output_dir out --report_to none --save_strategy no --learning_rate 3e-3",
    "train_sft.py": "--output_dir out --report_to none --save_strategy no --learning_rate 3e-3",
    "train_loop.py": "",
}


@dataclass(frozen=True)
class Case:
    """One launch: a config, a script, and what differs from two steps of four blocks of 128 bytes."""

    config: str
    script: str
    arguments: str = ""
    launcher_arguments: str = ""
    launcher: tuple[str, ...] = LAUNCH

    def command(self, workplace: Workplace) -> list[str]:
        """Return the argv as a user types it."""
        common = "--model_name_or_path tiny-llama --max_length 128 --max_steps 2"
        if "--per_device_train_batch_size" not in self.arguments:
            common += " --per_device_train_batch_size 4"
        script = shlex.split(f"{common} {_BY_SCRIPT[self.script]} {self.arguments}")
        argv = workplace.command(self.config, self.script, script, self.launcher)
        at = argv.index(self.script)
        return [*argv[:at], *shlex.split(self.launcher_arguments), *argv[at:]]

    @property
    def id(self) -> str:
        """The name of the test."""
        return f"{self.config.removesuffix('.yaml')}-{self.script.removesuffix('.py')}"
