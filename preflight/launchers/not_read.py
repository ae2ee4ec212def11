"""What is said of a script that nobody can read, of one that trains nothing, and of libraries that lie elsewhere."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import pairwise

from preflight.errors import Problem
from preflight.files import wrong_kind
from preflight.formulas.limits.doubts import LOADING
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_file_fix
from preflight.notebooks import ENDING
from preflight.plan_choices import HF_TRAINERS
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import only_shell_knows
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments

DOES_NOT_TRAIN = "a launch that does not train"
NO_TRAINING = "a script that does not train"
HELD = "what a script that is not here holds"
OF_TRANSFORMERS = {
    "/language-modeling/run_clm.py": None,
    "/language-modeling/run_mlm.py": "masked_lm",
    "/text-classification/run_glue.py": "sequence_classification",
    "/token-classification/run_ner.py": "token_classification",
    "/summarization/run_summarization.py": None,
}
PUBLISHED = (*OF_TRANSFORMERS, "trl/scripts/sft.py")
"""Ends of the paths of scripts that transformers and TRL publish, which hold one model and their Trainer's own loss
(examples/pytorch of transformers 4.28 to 5.24, trl/scripts of 0.12 to 1.16); like a folder that has a model's public
name, such a path is what it says. Those of transformers make no adapter, pack no weights, and train the head that is said
here on an encoder."""

EVALUATE = frozenset({"lm_eval", "lmms_eval", "openrlhf.cli.batch_inference"})
"""Public programs that load a model and train nothing: the harnesses of EleutherAI (lm_eval/__main__.py, 0.4) and of LMMs-Lab
(lmms_eval/__main__.py, 0.3), and what OpenRLHF samples and scores rows with (openrlhf/cli/batch_inference.py, 0.5)."""


def settings_of_published(script: str, trainer: TrainerArguments) -> dict[str, Setting]:
    """Return what a script that is not here says by its path, where transformers publishes it."""
    end = None if trainer.is_here else next(filter(script.endswith, OF_TRANSFORMERS), None)
    if end is None:
        return {}
    objective = {} if OF_TRANSFORMERS[end] is None else {"objective": OF_TRANSFORMERS[end]}
    said = {"adapter": None, "base_quantization": None, **objective}
    return {name: Setting(value, Place("script", script, "")) for name, value in said.items()}


def not_here(
    command: LaunchCommand, part: LauncherPart, trainer: TrainerArguments
) -> Iterator[Problem]:
    """Yield that nobody can read the script: every rank stops where it is a path, a refusal must hold however it loads
    its model, and nothing says that the model is all that it holds."""
    script = command.argv[part.script_index] if part.script_index < len(command.argv) else ""
    unpriced, takes = ("", "") if trainer.is_here else (LOADING, "less")
    is_path = script.endswith((".py", ENDING)) and not only_shell_knows(script)
    if is_path and not command.in_container and not command.exists(script):
        path = command.resolve(script)
        fix = nearest_file_fix(script, path)
        wrong = f"the script {script} {wrong_kind(path)}"
        yield Problem(wrong, script, fix, "PF128", unpriced=unpriced, takes=takes)
    elif unpriced and script:
        unread = f"{script} is not here to be read: what no flag or file says is open"
        fix = "check it where it is, or --set FIELD=VALUE"
        yield Problem(unread, script, fix, severity="info", unpriced=unpriced, takes=takes)
    if unpriced and script and not script.endswith(PUBLISHED):
        held = f"what else {script} holds is not known: another model, a loss of its own"
        yield Problem(held, script, severity="info", unpriced=HELD, takes="more")


def does_not_train(script: str) -> Problem:
    return Problem(
        f"nothing in {script}, or in the files here that it imports, trains: what runs is not known",
        script,
        "put preflight in front of what trains, or say in a plan what it trains",
        severity="warning",
        unpriced=NO_TRAINING,
        takes="either",
    )


NEEDED = ("model", "micro_batch_size", "seq_len")
"""Plan fields without which nothing is estimated."""
_SETTINGS = lazy_pattern(r"\.(?:ya?ml|toml)$")
_SETTINGS_BY_FLAG = lazy_pattern(
    r"^--?(?!\w*(?:deepspeed|ds_|fsdp|peft|lora))\w*(?:config|cfg|args|settings)[\w-]*(?:=|$)"
)
"""A flag whose file holds settings though it be JSON, as files of rows are too."""


def files_nobody_read(
    command: LaunchCommand, part: LauncherPart, fields: Container[str], said: Iterable[Setting]
) -> Iterator[Problem]:
    """Yield each file of settings that a script is given and of which `said` has nothing, where it may say what the plan
    lacks: a parser of the script's own reads it, or another library."""
    lacking = [name for name in NEEDED if name not in fields]
    if not lacking:
        return
    read = {command.resolve(each.place.document) for each in said if each.place.document}
    words = command.argv[part.script_index :]
    for before, word in pairwise(words):
        flag, equals, value = word.partition("=")
        path = value if equals and flag.startswith("-") else word
        holds = _SETTINGS.search(path) or (
            path.endswith(".json") and _SETTINGS_BY_FLAG.match(flag if equals else before)
        )
        if holds and command.exists(path) and command.resolve(path) not in read:
            yield Problem(
                f"the script is given {path}, of which nothing was read: it may say {', '.join(lacking)}",
                word,
                "say it with --set FIELD=VALUE",
                severity="warning",
            )


def is_not_asked_to_train(script: str, trainer: TrainerArguments) -> Problem | None:
    """Return that a launch of a script that trains where `do_train` asks for it does not ask; None where it may."""
    from preflight.scripts.reach.asked_training import ASKS

    said = trainer.arguments.get(ASKS) or trainer.raw.get(ASKS)
    if trainer.trainer not in HF_TRAINERS or (said is not None and said.value is not False):
        return None
    return Problem(
        f"{script} trains where --{ASKS} says so, and nothing does: what it evaluates or predicts is not estimated",
        script if said is None else said.place.where,
        f"--{ASKS}, where it is meant to train",
        severity="warning",
        unpriced=DOES_NOT_TRAIN,
        takes="either",
    )


def unseen(environment: str) -> Problem:
    """Return what to say of libraries that lie in a place of their own."""
    return Problem(
        f"the launch runs in {environment}, which is not on this machine: its library versions are not seen",
        "the environment",
        "say them, for instance with --set versions.transformers=VERSION",
        "PF130",
        "info",
    )
