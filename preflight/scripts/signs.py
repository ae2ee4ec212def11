"""Signs in a training script, and in the files of its repository that it imports, that it decides a plan field itself.

A loop of somebody's own may shard, quantize, checkpoint or put an adapter on its model in ways that no reader follows.
Whether it does leaves a name in its text. A field without any such name has its usual value; one with a name that was
not read is open; and where the script cannot be read at all, every field is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from preflight.launch import LaunchCommand
from preflight.launch_facts import Scorer, StepLoss
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_parts import DIVIDED
from preflight.scripts.losses.own_losses import NARROW_LOSS, OWN_LOSS
from preflight.scripts.python.messages import without_messages
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.repository_files import repository_files
from preflight.scripts.reach.asked_training import trains, trains_if_asked
from preflight.scripts.reach.reach import Reach
from preflight.scripts.reach.reach_text import text_left
from preflight.scripts.settings.freezing import is_told_by_flags
from preflight.scripts.uncounted.own_steps import functions_of, uncounted_calls
from preflight.scripts.uncounted.replaced_attention import (
    REPLACES,
    ReplacedAttention,
    replaced_attention,
)
from preflight.scripts.uncounted.sign_words import (
    ASKS_INPUTS,
    BESIDE_TEXT,
    CUTS,
    FROZEN,
    HANDS_LENGTH_ON,
    INFERS,
    LOOKS_AT_ROWS,
    MAKES_ROWS,
    PAIRS,
    REDUCES_LOGITS,
    SIGNS,
    UNPRICED,
)
from preflight.scripts.uncounted.tower_calls import (
    composites,
    llava_classes,
    only_towers_keep_outputs,
    without_vision,
)
from preflight.scripts.uncounted.uncounted import OUTPUTS, UNCOUNTED
from preflight.setting import Place
from preflight.values import dataclass

_WORD_BEFORE = lazy_pattern(r"\w+\Z")
_LONGEST_WORD = 60
"""Of the word that a sign may be the end of: a pattern that begins with any letters is slow on a large file."""


@dataclass(frozen=True)
class Signs:
    """What a script speaks of: the first place of each."""

    fields: Mapping[str, Place]
    """Plan fields that it may decide; all of them where the script cannot be read."""
    unpriced: Mapping[str, Place]
    """Keys of UNPRICED, and what calls hold (preflight/scripts/uncounted/own_steps.py)."""
    is_text_only: bool
    """Whether all of it was read, and nothing in it speaks of images or audio."""
    cuts_rows: bool
    """False where all of it was read, it makes its rows, and nothing in it cuts them at a length."""
    hands_length_on: bool
    """False where all of it was read, it makes its rows, and nothing in it does anything with an argument `model_max_length`."""
    may_train: bool
    """False where it was read, and neither it nor what it imports has a call that trains."""
    trains_if_asked: bool
    """Whether its trainer trains only where `do_train` is on."""
    infers: bool
    """Whether it has a call that evaluates or generates."""
    step_loss: StepLoss | None
    """What its own step makes of the model's logits, where that is not the model's loss and was read."""
    scorer: Scorer | None
    """The module of its own around its model that scores pairs, and takes no other loss of it."""
    towers_keep_outputs: bool
    """Whether towers, and nothing else, are asked for the outputs of every layer."""
    llava_classes: frozenset[str]
    """Classes of its own by which it loads a language model and builds LLaVA's parts onto it."""
    composites: Mapping[str, tuple[str, ...]]
    """Classes of its own that are a tower, a language model and a projector -> the projector's modules with weights."""
    attention: ReplacedAttention | None
    """What it puts in place of a model's attention."""
    takes_launchers: bool
    """Whether it may make what takes the launcher's settings, accelerate's Accelerator or Lightning's, or not all of it was read."""
    asks_shares: bool
    """Whether it may ask accelerate for one rank's share of its rows, or not all of it was read."""
    divided: Place | None
    """Where its loop gives the model one rank's share of every row, if it does."""
    inputs_ask: bool
    """Whether it may make a frozen embedding's output ask for gradients, or not all of it was read."""


def signs_of(command: LaunchCommand, script: str, reader: ScriptReader | None = None) -> Signs:
    """Return what a script and the files that it imports speak of, in lines that this launch may run.

    `reader` has the script as it was read for this command line; without it every branch may be taken.
    """
    reach = Reach(command, script, reader)
    words = [*SIGNS.values(), *(pattern for pattern, _ in UNPRICED.values()), BESIDE_TEXT]
    files = list(text_left(reach, lambda name: any(re.search(word, name) for word in words)))
    if reach.modules.unread:
        # What such a file imports is told from its text.
        near = {path for path, _ in files}
        files += [each for each in repository_files(command, script) if each[0] not in near]
    originals = {module.path: module.text for module in reach.files}
    functions = functions_of(originals.values())
    whole = "\n".join(text for _, text in files)
    of_script = reach.files[0].text if reach.files else ""
    is_whole = bool(files) and reach.is_whole
    fields: dict[str, Place] = {}
    unpriced: dict[str, Place] = {}
    beside: dict[str, Place] = {}
    patterns = [(fields, name, pattern) for name, pattern in SIGNS.items()]
    patterns += [(unpriced, name, pattern) for name, (pattern, _) in UNPRICED.items()]
    patterns.append((beside, "", BESIDE_TEXT))
    there = [each for each in patterns if re.search(each[2], whole)] if whole else []
    cuts_rows, makes_rows = not is_whole, False
    has_no_reference = is_whole and _has_no_reference(reach)
    for path, text in files:
        does = without_messages(originals.get(path, text), text)
        does = without_vision(originals.get(path, text), does)
        does = _REFERENCE_NAME.sub("", does) if has_no_reference else does
        cuts_rows = cuts_rows or CUTS.search(does) is not None
        makes_rows = makes_rows or MAKES_ROWS.search(does) is not None
        for places, name, pattern in there:
            _note(places, name, pattern, path, text if places is beside else does)
        for name, line in uncounted_calls(originals.get(path, text), text, functions):
            unpriced.setdefault(name, Place("script", path, name, line))
    if FROZEN in unpriced and is_told_by_flags(
        (originals.get(path, text), text) for path, text in files
    ):
        unpriced.pop(FROZEN)
    asked = [(originals.get(path, text), text) for path, text in files if OUTPUTS in unpriced]
    towers_keep = only_towers_keep_outputs(
        (text, without_messages(text, used)) for text, used in asked
    )
    if towers_keep:
        unpriced.pop(OUTPUTS)
    if REDUCES_LOGITS.search(whole):
        unpriced.pop("logits gathered for compute_metrics", None)
    if not is_whole:
        everywhere = Place("script", script, "")
        fields = {name: fields.get(name, everywhere) for name in SIGNS}
    own = _own_loss(reach, unpriced, whole)
    copies = re.findall(UNCOUNTED[COPY][0], whole)
    if own is not None and own.has_copy and len(copies) == 1 and _COPIED.search(whole):
        unpriced.pop(COPY, None)  # the reference itself
    return Signs(
        fields,
        unpriced,
        is_whole and not beside and not LOOKS_AT_ROWS.search(whole),
        cuts_rows or not makes_rows,
        not (is_whole and makes_rows) or HANDS_LENGTH_ON.search(whole) is not None,
        not reach.is_followed or trains(reach, f"{of_script}\n{whole}"),
        is_whole and trains_if_asked((each.tree for each in reach.files), of_script),
        re.search(INFERS, whole) is not None,
        own,
        _scorer(reach, unpriced) if is_whole else None,
        towers_keep,
        llava_classes(asked) if towers_keep else frozenset(),
        composites((originals.get(path, text), text) for path, text in files),
        replaced_attention(
            (each.path, each.tree, reach.lines[each.path])
            for each in reach.files
            if REPLACES.search(each.text)
        ),
        not is_whole or _TAKES_LAUNCHERS.search(whole) is not None,
        not is_whole or "maybe_context_parallel" in whole,
        _divided(reach) if DIVIDED in unpriced else None,
        not is_whole or ASKS_INPUTS.search(whole) is not None,
    )


_TAKES_LAUNCHERS = lazy_pattern(r"\bAccelerator\b|\bFabric\b|lightning|\bdeepspeed\b")
COPY = "a second copy of the model"
OF_STEP = frozenset({OWN_LOSS, NARROW_LOSS, PAIRS, "a second forward pass"})
"""Signs of a step that takes its loss of logits itself."""
_REFERENCE = lazy_pattern(r"\bref(?:erence)?_(?:model|engine)\b(?!\s*=\s*None\b)")
_COPIED = lazy_pattern(r"\bref\w*\s*=\s*(?:copy\.)?deepcopy\(")
_UNCACHED = lazy_pattern(
    r"(?<!config\.)\buse_cache[\"']?\s*[=:]\s*(?:False\b(?!\s+if\b)|(False\s+if\s+[\w.]*gradient_checkpointing\b))"
)
"""What a script says of keys and values of its models: none, or none where layers are checkpointed."""
_SEVERAL = lazy_pattern(r"(?i)chosen|reject|prefer|\bpairs?\b|_k\b|num_return|candidates")
"""Words of a script of which a row may become several sequences."""


def _own_loss(reach: Reach, unpriced: Mapping[str, Place], whole: str) -> StepLoss | None:
    """Return what the step of a script takes, where it was read and speaks of no model that it does not call."""
    if not OF_STEP & set(unpriced):
        return None
    # Eight modules that a script without a loss of its own does not need.
    from preflight.scripts.uncounted.step_loss import File, step_loss

    found = step_loss(
        [File(each.path, each.tree, frozenset(reach.lines[each.path])) for each in reach.files]
    )
    if found is None or (not found.compares and _REFERENCE.search(whole)):
        return None
    if found.asks_layers and found.asks_layers != len(re.findall(UNCOUNTED[OUTPUTS][0], whole)):
        return None  # something else asks for them too
    uncached = _UNCACHED.search(whole)
    if found.caches_keys and uncached is not None:
        found = replace(found, caches_keys=None if uncached[1] else False)
    if _SEVERAL.search(whole) is None:
        return replace(found, is_exact=False) if found.has_pairs else found
    return found if found.has_pairs else None


def _divided(reach: Reach) -> Place | None:
    from preflight.scripts.uncounted.divided_rows import (
        divides_rows,  # few scripts speak of a share
    )

    return divides_rows(reach.files, reach.lines) if reach.is_whole else None


_REFERENCE_NAME = lazy_pattern(r"\bref(?:erence)?_model\b")


def _has_no_reference(reach: Reach) -> bool:
    """Tell whether the reference model that a script speaks of is None wherever this launch sets it."""
    files = [each for each in reach.files if _REFERENCE_NAME.search(each.text)]
    if not files:
        return False
    from preflight.scripts.uncounted.reference_copies import (
        is_never_made,  # few scripts speak of one
    )

    return is_never_made((each.tree, reach.lines[each.path]) for each in files)


MAKES = " makes of the model"
"""How own_steps.py ends what it says of a function or class that a model is put through."""


def _scorer(reach: Reach, unpriced: Mapping[str, Place]) -> Scorer | None:
    """Return what scores the answers of a pair, where that is all that a script puts its model through."""
    names = [name.split()[1] for name in unpriced if name.endswith(MAKES)]
    if len(names) != 1:
        return None
    from preflight.scripts.uncounted.scoring_models import scoring_model  # few scripts have one

    return scoring_model(((each.path, each.tree) for each in reach.files), names)


def _note(places: dict[str, Place], name: str, pattern: str, path: str, text: str) -> None:
    match = None if name in places else re.search(pattern, text)
    if match is not None:
        line = text.count("\n", 0, match.start()) + 1
        before = _WORD_BEFORE.search(text, max(0, match.start() - _LONGEST_WORD), match.start())
        told = before[0] if before is not None and match[0][:1].isidentifier() else ""
        places[name] = Place("script", path, told + match[0], line)
