"""A main of somebody's own that trains with verl's FSDP workers: `python -m recipe.dapo.main_dapo`.

Cards hold what the workers hold. A trainer, RayPPOTrainer or a subclass of it, runs on the driver, to which Ray gives no
card, and sends them batches: where the workers are verl's, share one pool, and are asked for nothing but what verl's own
trainer asks for, their memory is what verl's configuration says (trainer/main_ppo.py and trainer/ppo/ray_trainer.py of verl
0.2 to 0.7.1, whose `recipe` has such mains).
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

from preflight.errors import BadInput
from preflight.formats import hydra
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.scripts.python.nodes import keyword_of, last_name, unparse, walk
from preflight.scripts.python.trees import read_tree
from preflight.values import dataclass

WORKERS = (
    "verl.workers.fsdp_workers", "verl.workers.megatron_workers", "verl.workers.engine_workers",
)  # fmt: skip
TRAINER = ("verl.trainer.ppo.ray_trainer", "RayPPOTrainer")
ASKED = frozenset(
    [
        "compute_log_prob", "compute_ref_log_prob", "compute_rm_score", "compute_values",
        "generate_sequences", "init_model", "load_checkpoint", "save_checkpoint", "sleep",
        "start_profile", "stop_profile", "update_actor", "update_critic", "wake_up",
    ]
)  # fmt: skip
"""Methods of worker groups and of the rollout's manager that RayPPOTrainer calls (0.2.0 to 0.7.1)."""
GROUPS = ("_wg", "async_rollout_manager")
"""Ends of the names under which a trainer has its workers."""
OF_VERL = ("ppo_trainer", "_self_")
"""Entries of the defaults of a configuration that stands on verl's own."""


@dataclass(frozen=True)
class OwnMain:
    """Such a main."""

    config_name: str
    """Of its configuration: the one that the command names, else its own."""
    document: Document
    """Its configuration, which stands on verl's own or on none."""


def own_main(command: LaunchCommand, index: int) -> OwnMain | None:
    """Return the main at an argv index; None where it is none, or asks workers for more than verl's own does."""
    word = command.argv[index]
    path = word if word.endswith(".py") else f"{word.replace('.', os.sep)}.py"
    tree = read_tree(command, path)
    if tree is None:
        return None
    started = [
        decorator
        for node in walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and unparse(decorator.func) == "hydra.main"
    ]
    if len(started) != 1 or not _has_verls_workers(tree) or not _asks_as_verl(command, path, tree):
        return None
    if any(isinstance(node, ast.keyword) and node.arg == "num_gpus" for node in walk(tree)):
        return None  # an actor of Ray's own beside the workers
    said = [keyword_of(started[0], name) for name in ("config_path", "config_name")]
    words = [node.value for node in said if isinstance(node, ast.Constant)]
    if len(words) != 2 or not all(isinstance(each, str) for each in words):
        return None
    options = hydra.read_words(command.argv, index + 1).options
    name = options.get("name", str(words[1]))
    folder = os.path.join(os.path.dirname(path), options.get("path", str(words[0])))
    file = os.path.join(folder, name if name.endswith(".yaml") else f"{name}.yaml")
    if not command.exists(file):
        return None
    try:
        document = read_document(command, file, "yaml", stated_at=file)
    except BadInput:
        return None
    below = {*map(str, document.value.get("defaults", OF_VERL))}
    return OwnMain(name, document) if below <= {*OF_VERL} else None


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the modules and the names of what a file imports from them, relative ones behind a dot for each level."""
    for node in walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def _has_verls_workers(tree: ast.Module) -> bool:
    """Tell whether all workers of a main are verl's, with an actor among them, and have one pool of cards."""
    workers = [(module, name) for module, name in _imported(tree) if name.endswith("Worker")]
    own = [n for n in walk(tree) if isinstance(n, ast.ClassDef) and n.name.endswith("Worker")]
    pools = [
        node.value
        for node in walk(tree)
        if isinstance(node, ast.Assign) and unparse(node.targets[0]).endswith("resource_pool_spec")
    ]
    return (
        not own
        and any(name == "ActorRolloutRefWorker" for _, name in workers)
        and all(module in WORKERS for module, _ in workers)
        and len(pools) == 1
        and isinstance(pools[0], ast.Dict)
        and len(pools[0].keys) == 1
    )


def _asks_as_verl(command: LaunchCommand, path: str, tree: ast.Module) -> bool:
    """Tell whether a main's only trainer is verl's own, or one of the repository's that asks workers for no more."""
    made = {last_name(node.func) for node in walk(tree) if isinstance(node, ast.Call)}
    trainers = {
        (m, name) for m, name in _imported(tree) if name in made and name.endswith("Trainer")
    }
    if len(trainers) != 1:
        return False
    ((module, name),) = trainers
    if (module, name) == TRAINER:
        return True
    inner = module.lstrip(".").replace(".", os.sep)
    levels = len(module) - len(module.lstrip("."))
    folder = os.path.join(os.path.dirname(path), *[os.pardir] * (levels - 1)) if levels else ""
    own = read_tree(command, os.path.join(folder, f"{inner}.py"))
    if own is None or TRAINER not in {*_imported(own)}:
        return False
    classes = [n for n in walk(own) if isinstance(n, ast.ClassDef) and n.name == name]
    is_verls = len(classes) == 1 and [unparse(base) for base in classes[0].bases] == [TRAINER[1]]
    return (
        is_verls and {*_asked(classes[0])} <= ASKED and "generate_sequences" in _asked(classes[0])
    )


def _asked(trainer: ast.ClassDef) -> set[str]:
    """Return the methods of its workers that a trainer calls."""
    calls = (node.func for node in walk(trainer) if isinstance(node, ast.Call))
    return {
        func.attr
        for func in calls
        if isinstance(func, ast.Attribute) and unparse(func.value).endswith(GROUPS)
    }
