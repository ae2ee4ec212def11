"""Reads what a script of somebody's own, and the files of its repository that it imports, speak of (preflight/scripts/signs.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from preflight.launch import LaunchCommand
from preflight.launch_facts import Scorer, StepLoss
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.messages import without_messages
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.repository_files import repository_files
from preflight.scripts.reach.asked_training import trains, trains_if_asked
from preflight.scripts.reach.reach import Reach
from preflight.scripts.reach.reach_text import COMMENT, text_left
from preflight.scripts.settings.freezing import is_told_by_flags
from preflight.scripts.signs import Signs, unread
from preflight.scripts.uncounted.asked_in_steps import asked_in
from preflight.scripts.uncounted.own_steps import functions_of, uncounted_calls
from preflight.scripts.uncounted.replaced_attention import (
    REPLACES,
    ReplacedAttention,
    replaced_attention,
)
from preflight.scripts.uncounted.sign_words import (
    ASKS_INPUTS,
    CUTS,
    HANDS_LENGTH_ON,
    INFERS,
    LOOKS_AT_ROWS,
    MAKES_ROWS,
    PATTERNS,
    REDUCES_LOGITS,
    SIGNS,
    signs_in,
)
from preflight.scripts.uncounted.tower_calls import (
    composites,
    llava_classes,
    only_towers_keep_outputs,
    without_vision,
)
from preflight.scripts.uncounted.uncounted import UNCOUNTED
from preflight.setting import Place
from preflight.unpriced_names import (
    COPY,
    DIVIDED,
    FROZEN,
    GATHERED_LOGITS,
    MADE_BY_NAME,
    MAKES,
    OF_STEP,
    OUTPUTS,
)

_WORD_BEFORE = lazy_pattern(r"\w+\Z")
_WORD_AFTER = lazy_pattern(r"\w{,60}")
_LONGEST_WORD = 60
"""Of the word that a sign may be the end of: a pattern that begins with any letters is slow on a large file."""


def signs_of(command: LaunchCommand, script: str, reader: ScriptReader | None = None) -> Signs:
    """Return what a script and the files that it imports speak of, in lines that this launch may run.

    `reader` has the script as it was read for this command line; without it every branch may be taken.
    """
    reach = Reach(command, script, reader)
    files = list(text_left(reach, lambda name: any(True for _ in signs_in(name))))
    if reach.modules.unread:
        # What such a file imports is told from its text.
        near = {path for path, _ in files}
        files += [each for each in repository_files(command, script) if each[0] not in near]
    originals = {module.path: module.text for module in reach.files}
    functions = functions_of(originals.values())
    asked_functions = asked_in(originals.values())
    whole = "\n".join(text for _, text in files)
    of_script = reach.files[0].text if reach.files else ""
    is_whole = bool(files) and reach.is_whole
    fields: dict[str, Place] = {}
    unpriced: dict[str, Place] = {}
    beside: dict[str, Place] = {}
    of_sign = {"": beside, **dict.fromkeys(SIGNS, fields)}
    there = [(of_sign.get(name, unpriced), name) for name in signs_in(whole)]
    cuts_rows, makes_rows = not is_whole, False
    has_no_reference = is_whole and _has_no_reference(reach)
    done = [COMMENT.sub("", without_messages(of_script, of_script))]
    for path, text in files:
        does = without_messages(originals.get(path, text), text)
        done.append(does)
        does = without_vision(originals.get(path, text), does)
        does = _REFERENCE_NAME.sub("", does) if has_no_reference else does
        cuts_rows = cuts_rows or CUTS.search(does) is not None
        makes_rows = makes_rows or MAKES_ROWS.search(does) is not None
        for places, name in there:
            _note(places, name, path, text if places is beside else does)
        for name, line in uncounted_calls(
            originals.get(path, text), text, functions, asked_functions
        ):
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
    if files and not reach.is_followed and _LOADS.search(whole) is None:
        unpriced[MADE_BY_NAME] = Place("script", files[0][0], "")
    if REDUCES_LOGITS.search(whole):
        unpriced.pop(GATHERED_LOGITS, None)
    if not is_whole:
        fields = {**unread(script).fields, **fields}
    own = _own_loss(reach, unpriced, whole)
    copies = re.findall(UNCOUNTED[COPY][0], whole)
    if own is not None and own.has_copy and len(copies) == 1 and _COPIED.search(whole):
        unpriced.pop(COPY, None)  # the reference itself
    return Signs(
        fields=fields,
        unpriced=unpriced,
        is_text_only=is_whole and not beside and not LOOKS_AT_ROWS.search(whole),
        cuts_rows=cuts_rows or not makes_rows,
        hands_length_on=not (is_whole and makes_rows) or HANDS_LENGTH_ON.search(whole) is not None,
        may_train=not reach.is_followed or trains(reach, "\n".join(done)),
        trains_if_asked=is_whole
        and trains_if_asked((each.tree for each in reach.files), of_script),
        infers=re.search(INFERS, whole) is not None,
        step_loss=own,
        scorer=_scorer(reach, unpriced) if is_whole else None,
        towers_keep_outputs=towers_keep,
        llava_classes=llava_classes(asked) if towers_keep else frozenset(),
        composites=composites((originals.get(path, text), text) for path, text in files),
        attention=_attention(reach, reader),
        takes_launchers=not is_whole or _TAKES_LAUNCHERS.search(whole) is not None,
        asks_shares=not is_whole or "maybe_context_parallel" in whole,
        divided=_divided(reach) if DIVIDED in unpriced else None,
        stays_in_evaluation=is_whole
        and "from_pretrained(" in whole
        and _SETS_MODE.search(whole) is None,
        turns_to_evaluation=_turns_to_evaluation(reach)
        if is_whole and ".eval(" in whole and _CHECKPOINTS_ITSELF.search(whole) is None
        else None,
        inputs_ask=not is_whole or ASKS_INPUTS.search(whole) is not None,
        caches_keys=is_whole and "transformers" in whole and _caches_keys(reach, whole),
    )


def _attention(reach: Reach, reader: ScriptReader | None) -> ReplacedAttention | None:
    files = [each for each in reach.files if REPLACES.search(each.text)]
    statements = reader.statements if files and reader is not None else ()
    sure_lines = {(scope.path, statement.lineno) for statement, scope in statements}
    return replaced_attention(
        ((each.path, each.tree, reach.lines[each.path]) for each in files), sure_lines
    )


_LOADS = lazy_pattern(
    r"\bfrom_(?:pretrained|config)\b|\b\w*Trainer\(|\b\w+(?:For[A-Z]\w+|LMHeadModel|LanguageModel)\b"
)
"""Words of a script that loads its model itself, or leaves it to a trainer."""
_TAKES_LAUNCHERS = lazy_pattern(r"\bAccelerator\b|\bFabric\b|lightning|\bdeepspeed\b")
_SETS_MODE = lazy_pattern(
    r"\.train\(|\.training\b|from_config\(|(?:LM|Generation|Classification|Model)\(|checkpoint_wrapper|checkpoint\(|_checkpointing\(|lightning"
    r"|\b(?:Trainer|composer|unsloth)\b|\.fit\("
)
"""Words of a script that may set its model to training, makes one itself, or checkpoints in either mode."""
_CHECKPOINTS_ITSELF = lazy_pattern(r"checkpoint_wrapper|checkpoint\(|\.training\b|lightning")
"""Words of a script that checkpoints in either mode, or sets the mode otherwise."""


def _turns_to_evaluation(reach: Reach) -> Place | None:
    from preflight.scripts.uncounted.left_in_evaluation import left_in_evaluation  # few evaluate

    for file in reach.files:
        line = left_in_evaluation(file.tree)
        if line is not None:
            return Place("script", file.path, "", line)
    return None


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


def _caches_keys(reach: Reach, whole: str) -> bool | None:
    if "use_cache" not in whole:
        return True
    from preflight.scripts.uncounted.cached_keys import caches_keys  # many scripts say nothing

    return caches_keys((each.tree, reach.lines[each.path]) for each in reach.files)


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


def _scorer(reach: Reach, unpriced: Mapping[str, Place]) -> Scorer | None:
    """Return what scores the answers of a pair, where that is all that a script puts its model through."""
    names = [name.split()[1] for name in unpriced if name.endswith(MAKES)]
    if len(names) != 1:
        return None
    from preflight.scripts.uncounted.scoring_models import scoring_model  # few scripts have one

    return scoring_model(((each.path, each.tree) for each in reach.files), names)


def _note(places: dict[str, Place], name: str, path: str, text: str) -> None:
    match = None if name in places else re.search(PATTERNS[name], text)
    if match is not None:
        line = text.count("\n", 0, match.start()) + 1
        before = _WORD_BEFORE.search(text, max(0, match.start() - _LONGEST_WORD), match.start())
        told = before[0] if before is not None and match[0][:1].isidentifier() else ""
        after = _WORD_AFTER.match(text, match.end()) if match[0][-1:].isidentifier() else None
        places[name] = Place("script", path, told + match[0] + (after[0] if after else ""), line)
