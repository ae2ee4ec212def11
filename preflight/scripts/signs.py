"""Signs in a training script, and in the files of its repository that it imports, that it decides a plan field itself.

A loop of somebody's own may shard, quantize, checkpoint or put an adapter on its model in ways that no reader follows.
Whether it does leaves a name in its text. A field without any such name has its usual value; one with a name that was
not read is open; and where the script cannot be read at all, every field is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from preflight.launch_facts import Scorer, StepLoss
from preflight.scripts.uncounted.sign_words import SIGNS
from preflight.setting import Place
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.scripts.uncounted.replaced_attention import ReplacedAttention


@dataclass(frozen=True)
class Signs:
    """What a script speaks of: the first place of each. The defaults are what one may do that was not read."""

    fields: Mapping[str, Place]
    """Plan fields that it may decide; all of them where the script cannot be read."""
    unpriced: Mapping[str, Place] = field(default_factory=dict)
    """Keys of UNPRICED, and what calls hold (preflight/scripts/uncounted/own_steps.py)."""
    is_text_only: bool = False
    """Whether all of it was read, and nothing in it speaks of images or audio."""
    cuts_rows: bool = True
    """False where all of it was read, it makes its rows, and nothing in it cuts them at a length."""
    hands_length_on: bool = True
    """False where all of it was read, it makes its rows, and nothing in it does anything with an argument `model_max_length`."""
    may_train: bool = True
    """False where it was read, and neither it nor what it imports has a call that trains."""
    trains_if_asked: bool = False
    """Whether its trainer trains only where `do_train` is on."""
    infers: bool = False
    """Whether it has a call that evaluates or generates."""
    step_loss: StepLoss | None = None
    """What its own step makes of the model's logits, where that is not the model's loss and was read."""
    scorer: Scorer | None = None
    """The module of its own around its model that scores pairs, and takes no other loss of it."""
    towers_keep_outputs: bool = False
    """Whether towers, and nothing else, are asked for the outputs of every layer."""
    llava_classes: frozenset[str] = frozenset()
    """Classes of its own by which it loads a language model and builds LLaVA's parts onto it."""
    composites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Classes of its own that are a tower, a language model and a projector -> the projector's modules with weights."""
    attention: ReplacedAttention | None = None
    """What it puts in place of a model's attention."""
    takes_launchers: bool = True
    """Whether it may make what takes the launcher's settings, accelerate's Accelerator or Lightning's, or not all of it was read."""
    asks_shares: bool = True
    """Whether it may ask accelerate for one rank's share of its rows, or not all of it was read."""
    divided: Place | None = None
    """Where its loop gives the model one rank's share of every row, if it does."""
    stays_in_evaluation: bool = False
    """Whether all of it was read, its model is loaded, which leaves it in evaluation, and nothing tells it to train: what is
    checkpointed in training alone is not."""
    turns_to_evaluation: Place | None = None
    """Where a loop over epochs leaves its model in evaluation for all rounds but the first, if all of it was read."""
    caches_keys: bool | None = False
    """Whether all of it was read and nothing in it turns off what transformers' models cache in a forward that evaluates; None
    where it does so for a model that checkpoints."""
    inputs_ask: bool = True
    """Whether it may make a frozen embedding's output ask for gradients, or not all of it was read."""


def unread(script: str) -> Signs:
    """Return the signs of a script that is not here: it may decide every field."""
    return Signs(dict.fromkeys(SIGNS, Place("script", script, "")))
