"""Which trainer a script uses: told by the module's name, the script's text, or its flags. Nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from preflight.formulas.texts import is_retriever
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.values import NamedTuple

if TYPE_CHECKING:
    from preflight.trainers.own_subclasses import OwnTrainer

MAX_SCRIPT_CHARACTERS = 1_000_000

TRL_METHODS = {
    "SFTTrainer": "sft",
    "DPOTrainer": "dpo",
    "GRPOTrainer": "grpo",
    "KTOTrainer": "kto",
    "RewardTrainer": "reward",
    "RLOOTrainer": "rloo",
    "DistillationTrainer": "distillation",
}
"""Trainer of TRL that has a script of TRL's -> that script's name."""
MORE_TRL_METHODS = {
    "ORPOTrainer": "orpo",
    "CPOTrainer": "cpo",
    "BCOTrainer": "bco",
    "PRMTrainer": "prm",
    "PPOTrainer": "ppo",
    "PPOv2Trainer": "ppo",
    "OnlineDPOTrainer": "online_dpo",
    "NashMDTrainer": "nash_md",
    "XPOTrainer": "xpo",
    "GKDTrainer": "gkd",
}
"""Trainer of TRL without such a script -> what it trains for."""

_TRAINERS = (*TRL_METHODS, *MORE_TRL_METHODS)

TRL_CONFIGS = frozenset(f"trl.{name.replace('Trainer', 'Config')}" for name in TRL_METHODS)
PLAIN_ARGUMENTS = frozenset(
    {"transformers.TrainingArguments", "transformers.Seq2SeqTrainingArguments"}
)

TRL_FLAGS = frozenset(
    {
        "activation_offloading", "assistant_only_loss", "bnb_4bit_quant_storage", "completion_only_loss",
        "dataset_test_split", "dataset_train_split", "lora_task_type", "packing", "packing_strategy", "padding_free",
        "use_bnb_nested_quant", "use_peft",
    }
)  # fmt: skip
"""Names that TRL gave and that a script of somebody's own is unlikely to have."""

TRANSFORMERS_FLAGS = frozenset(
    {
        "activation_checkpointing", "adam_beta1", "auto_find_batch_size", "bf16", "dataloader_num_workers",
        "ddp_find_unused_parameters", "deepspeed", "eval_strategy", "fp16", "fsdp", "fsdp_config",
        "gradient_checkpointing_kwargs", "logging_steps", "lr_scheduler_kwargs", "optim",
        "per_device_eval_batch_size", "per_device_train_batch_size", "report_to", "save_strategy", "save_total_limit",
        "torch_compile_backend", "use_liger_kernel", "warmup_ratio",
    }
)  # fmt: skip
"""Names of TrainingArguments that a plain training loop seldom has."""


class TrainerKind(NamedTuple):
    """Which trainer, and how we know."""

    trainer: str | None
    """trl, transformers, plain_loop, or None where nothing tells."""
    because: str
    trl_script: str | None = None
    """sft, dpo, grpo, ... under TRL."""
    is_own_script: bool = False
    """True for TRL's own script: its arguments are exactly those of the table."""
    uses_trl_parser: bool = False
    """The script reads `--config FILE` as TrlParser does."""
    text: str = ""
    """The script, where it could be read."""
    text_of_loss: str = ""
    """The script with the loss of its trainer, which another file of its repository may have."""
    is_guess: bool = False
    """True where only flags or the script's file name speak for this trainer."""
    classes: frozenset[str] | None = None
    """Classes of transformers and TRL behind the script's arguments and trainer; None where there is no script of
    somebody's own to be read."""
    unreached: frozenset[str] = frozenset()
    """Trainers of transformers and TRL that the script makes under another command line."""
    module: str = ""
    """A library's own module that trains and is no script of TRL's: FlagEmbedding's or Tevatron's, by its dotted name."""
    own: tuple[OwnTrainer, ...] = ()
    """Trainers of the script's repository that may hold otherwise than the one of TRL's below."""
    loads_model: bool = False
    """True where the script loads a model itself, and TRL does not by the name that it is given."""

    @property
    def is_sure(self) -> bool:
        """Whether a class of the library surely reads the arguments."""
        if self.is_guess:
            return False
        return self.classes is None or bool(self.classes & (TRL_CONFIGS | PLAIN_ARGUMENTS))

    @property
    def arguments_library(self) -> str | None:
        """The library whose class has the arguments, and so their defaults: TRL's trainers take plain TrainingArguments."""
        if self.trainer == "trl" and self.classes and not self.classes & TRL_CONFIGS:
            return "transformers" if self.classes & PLAIN_ARGUMENTS else "trl"
        return self.trainer


def trainer_kind(script: str | None, flags: Iterable[str], command: LaunchCommand) -> TrainerKind:
    """Return the trainer of a script (a path, or a module name after -m) from its name and text, and its flags where those do not say."""
    own = re.search(r"(?:^|[./\\])trl[./\\]scripts[./\\](\w+?)(?:\.py)?$", script or "")
    text = _as_called(_script_text(script, command))
    others: tuple[OwnTrainer, ...] = ()
    if text and script is not None:
        # A script that is here is read with the files of its repository.
        from preflight.scripts.python.repository_files import repository_files
        from preflight.trainers.own_subclasses import as_their_base

        text, others = as_their_base(text, repository_files(command, script), _TRAINERS)
    if own:
        return TrainerKind(
            "trl",
            f"{script} is TRL's own script",
            own[1],
            is_own_script=not text or _is_unchanged(own[1], text),
            uses_trl_parser=True,
        )
    if is_retriever(script):
        because = f"{script} is a library's own module"
        return TrainerKind("transformers", because, module=script or "")
    if text and script is not None:
        return _kind_of_text(script, text, command)._replace(own=others)
    names = set(flags)
    if "deepspeed_config" in names:
        # deepspeed.add_config_arguments has both, the first as a switch.
        names.discard("deepspeed")
    told = sorted(names & TRL_FLAGS)
    if told:
        return TrainerKind(
            "trl",
            f"--{told[0]} is a flag of TRL",
            "sft",
            uses_trl_parser=True,
            text=text,
            is_guess=True,
        )
    told = sorted(names & TRANSFORMERS_FLAGS)
    named = re.search(
        r"(?:^|[\\/._-])(sft|dpo|grpo|kto|rloo|distillation)(?:[._-]|$)", script or ""
    )
    if told and named and not text:
        return TrainerKind(
            "trl",
            f"{script} is named after TRL's trainer, and --{told[0]} is a flag of TrainingArguments",
            named[1],
            uses_trl_parser=True,
            is_guess=True,
        )
    if told:
        because = f"--{told[0]} is a flag of TrainingArguments"
        return TrainerKind("transformers", because, text=text, is_guess=True)
    return TrainerKind(None, "neither the script's text nor its flags name a trainer", text=text)


def _kind_of_text(script: str, text: str, command: LaunchCommand) -> TrainerKind:
    """Return the trainer that a script names; where it names none, one of its repository's files that it imports may."""
    from preflight.scripts.python.repository_files import repository_files
    from preflight.trainers.own_subclasses import with_own_loss, with_own_name

    files = repository_files(command, script)
    found = _from_text(script, with_own_name(text, command, script))
    if found is not None:
        return found._replace(text=text, text_of_loss=with_own_loss(text, files))
    for path, other in files:
        own_names = with_own_name(other, command, script)
        found = _from_text(path, own_names) if other != text else None
        if found is not None and found.trainer != "plain_loop":
            return found._replace(text=text)
    return TrainerKind(None, f"{script} and what it imports name no trainer", text=text)


def _is_unchanged(trl_script: str, text: str) -> bool:
    """Tell whether a file at TRL's own path has no arguments added: TRL's GRPO and RLOO scripts have one dataclass."""
    added = text.count("@dataclass") - (1 if trl_script in ("grpo", "rloo") else 0)
    return added <= 0 and "make_parser" in text


PROSE = lazy_pattern(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^\'\\]|\\.|\'(?!\'\'))*\'\'\'|#[^\n]*', re.S
)
"""Docstrings, texts over several lines, and comments: what they name is not used."""


_TRL_TRAINS = lazy_pattern(
    r"^[ \t]*from trl\b[\w.]*[ \t]+import[ \t]+(?:\([^)]*|[^\n]*)\b(?:\w+Trainer|\w+Config|TrlParser|ScriptArguments)\b"
    r"|\btrl\.(?:[\w.]*\.)?\w+(?:Trainer|Config)\b|\A(?!(?s:.*)\bclass SFTTrainer\b)(?s:.*)(?<![\"'])\bSFTTrainer\b",
    re.MULTILINE,
)
"""What a script names that trains with TRL: a trainer, its arguments or its parser, and neither a collator alone nor a text."""


_HF_TRAINS = lazy_pattern(
    r"\b(?:Seq2Seq|SentenceTransformer|CrossEncoder|SparseEncoder)?TrainingArguments\b"
    r"|(?:(?<![\w.])|\btransformers\.)(?:Seq2Seq)?Trainer\(|\b(?:SentenceTransformer|CrossEncoder|SparseEncoder)Trainer\("
    r"|\bHfArgumentParser\b"
)
"""What a script names that trains with transformers' Trainer, or with one that stands on it."""


def _is_own(word: re.Match[str], code: str) -> bool:
    """Tell whether a name of transformers' is a class of the file's own that stands on none of its, or another library's."""
    name = word[0].rstrip("(")
    if name.startswith("transformers.") or name not in code:
        return False
    defined = re.search(
        rf"^[ \t]*class[ \t]+{name}\b(?![^\n]*(?:transformers\.|\(\s*\w*{name}))",
        code,
        re.MULTILINE,
    )
    imported = re.search(
        rf"^[ \t]*from[ \t]+(?!transformers\b|sentence_transformers\b)[\w.]+[ \t]+import[ \t]+(?:\([^)]*|[^\n]*)\b{name}\b(?![ \t]+as\b)",
        code,
        re.MULTILINE,
    )
    is_arguments = name.endswith("Arguments")
    return defined is not None or (imported is not None and not is_arguments)


def _from_text(script: str, text: str) -> TrainerKind | None:
    code = PROSE.sub("", text)
    uses_parser = "TrlParser" in code
    if _TRL_TRAINS.search(code):
        names = code.replace("OnlineDPOTrainer", "Online")
        methods = [method for name, method in TRL_METHODS.items() if name in names]
        methods += [method for name, method in MORE_TRL_METHODS.items() if name in code]
        method = methods[0] if methods else "sft"
        return TrainerKind(
            "trl", f"{script} imports trl", method, uses_trl_parser=uses_parser, text=text
        )
    words = (each for each in _HF_TRAINS.finditer(code) if not _is_own(each, code))
    word = next(words, None)
    if (
        word
        and word[0] == "HfArgumentParser"
        and not re.search(r"\w*(?:Trainer|TrainingArguments)\b", code)
    ):
        word = None  # a parser of somebody's own dataclasses, for a loop of somebody's own
    is_lightning = re.search(r"\b(?:pytorch_)?lightning\b", code) is not None
    if word and not (is_lightning and word[0].endswith("(")):
        return TrainerKind(
            "transformers",
            f"{script} uses {word[0].rstrip('(')}",
            uses_trl_parser=uses_parser,
            text=text,
        )
    if re.search(r"\bAccelerator\b", code):
        return TrainerKind("plain_loop", f"{script} uses Accelerator without a Trainer", text=text)
    return None


_NAMED = lazy_pattern(r"^[ \t]*(\w+)[ \t]*=[ \t]*([A-Z]\w*Trainer)[ \t]*(?:#.*)?$", re.MULTILINE)
"""A trainer's class under another name, by which it is called: `trainer_class = GRPOTrainer`."""


def _as_called(text: str) -> str:
    """Return a script that calls trainers by their own names, where it has one under another that nothing else is given."""
    for name, cls in _NAMED.findall(text):
        if len(re.findall(rf"\b{name}\b[^\n=(]*=(?!=)|\bas[ \t]+{name}\b", text)) == 1:
            text = re.sub(rf"(?<![\w.]){name}\(", f"{cls}(", text)
    return text


def _script_text(script: str | None, command: LaunchCommand) -> str:
    if script is None:
        return ""
    # Of one that is not readable as text here, its flags still say something.
    return command.readable_text(command.script_file(script))[:MAX_SCRIPT_CHARACTERS]
