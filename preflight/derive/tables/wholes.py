"""models/families/wholes.json: models around a decoder, that see or hear, whose decoder takes what it takes alone.

Found among all types of transformers: the decoder's type is one with costs of its own, and a small text step of the
whole has in every part what the same decoder has by itself. Towers and projectors are not laid out there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preflight.derive.layouts.small_models import small_config
from preflight.derive.tables.json_rows import in_rows
from preflight.derive.tables.library_defaults import COMPOSITES
from preflight.derive.target import Files, Say
from preflight.formulas.cost_tables import family_costs
from preflight.models.families.groups import BOTH_STACKS, group_of
from preflight.trace.encoders import encoder_class
from preflight.trace.log import INPUTS, LAYER_BACKWARD, LAYER_FORWARD, LOSS, LOSS_BACKWARD

PATH = "preflight/models/families/wholes.json"
PARTS = (LAYER_FORWARD, LOSS, LOSS_BACKWARD, LAYER_BACKWARD)
MOST_OFF = 0.002
"""Of what a part takes."""
BATCH, LENGTH = 2, 192
VOCABULARY: dict[str, Any] = {"vocabulary_map": {"<image>": 1}}
"""What Emu 3 cannot be built without; for every other it is no field."""


def text_types() -> Iterator[tuple[str, str]]:
    """Yield the types with a decoder in their `text_config` that has costs of its own, and that decoder's type."""
    from transformers import CONFIG_MAPPING

    for name in sorted(CONFIG_MAPPING):
        try:
            text = getattr(CONFIG_MAPPING[name](), "text_config", None)
        except Exception:  # one that has no defaults is none of these
            continue
        decoder = getattr(text, "model_type", None)
        if name in COMPOSITES or not isinstance(decoder, str) or family_costs(decoder) is None:
            continue
        is_encoder = encoder_class(decoder, "masked_lm") is not None
        if not is_encoder and group_of(decoder) not in (None, *BOTH_STACKS):
            yield name, decoder


def whole_of(name: str, decoder: str) -> dict[str, Any] | None:
    """Return where a type keeps its decoder, and what ties its head; None where its parts take something else."""
    from preflight.trace.build import build
    from preflight.trace.job import TraceJob
    from preflight.trace.run import trace

    alone = small_config(decoder)
    alone = {**alone.get("text_config", alone), "model_type": decoder}
    job = TraceJob(
        config={"model_type": name, "text_config": alone, **VOCABULARY, **_outputs(name, alone)},
        micro_batch_size=BATCH,
        seq_len=LENGTH,
        full_depth=True,
    )
    whole = build(job)
    attention = str(getattr(whole.model.config, "_attn_implementation", None) or "sdpa")
    of_decoder = replace(job, config=alone, attention=attention)
    own, head = build(of_decoder), _head_of(whole.model)
    is_usual = own.prefix == "model.layers" and whole.prefix.endswith(".layers") and head
    mine, theirs = (dict(_taken(trace(one, num_steps=1))) for one in (job, of_decoder))
    if not is_usual or set(mine) != set(theirs):
        return None
    if any(abs(mine[part] - theirs[part]) > MOST_OFF * theirs[part] for part in theirs):
        return None
    classes = tuple(sorted(getattr(whole.model, "_no_split_modules", None) or ()))
    return {
        "text": decoder,
        "body": whole.prefix.removesuffix(".layers"),
        "head": head,
        "attention": attention,
        "classes": classes,
        **_tied(name, alone),
    }


def _outputs(name: str, text: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the sections of a whole whose outputs are as wide as its decoder, with the width of a small one."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[name]()
    usual, width = config.text_config.hidden_size, text.get("hidden_size")
    found: dict[str, dict[str, int]] = {}
    for section in ("vision_config", "audio_config"):
        own = getattr(config, section, None)
        values = {} if own is None else vars(own)
        outputs = [field for field, value in values.items() if "out" in field and value == usual]
        if outputs and isinstance(width, int):
            found[section] = dict.fromkeys(outputs, width)
    return found


def _head_of(model: Any) -> str:
    head = model.get_output_embeddings()
    return next((path for path, module in model.named_modules() if module is head), "")


def _taken(result: Any) -> Iterator[tuple[tuple[str, int], int]]:
    """Yield what each part of a step has alive at its peak beyond what was there when the step began."""
    levels = [level for level in result.levels if level.part.step == 0]
    start = next(level.entry_bytes for level in levels if level.part.name == INPUTS)
    for level in levels:
        if level.part.name in PARTS:
            yield (level.part.name, level.part.layer), level.peak_bytes - start


def _tied(name: str, text: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a head is tied where a config does not say, and whether its decoder's section may say it."""
    from transformers import CONFIG_MAPPING

    def says(of_text: bool) -> bool:
        section = {**text, "tie_word_embeddings": of_text}
        config_class: Any = CONFIG_MAPPING[name]
        config = config_class(text_config=section, **_outputs(name, text))
        return bool(getattr(config, "tie_word_embeddings", False))

    return {"tied": says(False), "tied_by_text": says(True) and not says(False)}


def derive(say: Say) -> dict[str, Any]:
    """Return every whole that is like its decoder, by its type."""
    found: dict[str, Any] = {}
    for name, decoder in text_types():
        try:
            whole = whole_of(name, decoder)
        except Exception as error:  # whatever transformers raises of a tower that is not asked for
            print(f"{name}: {' '.join(str(error).split())[:160]}", file=sys.stderr)
            continue
        say(f"{name}: {decoder if whole else 'unlike ' + decoder}")
        if whole:
            found[name] = whole
    return found


def files(say: Say) -> Files:
    """Yield the file of the installed release."""
    yield PATH, in_rows({"wholes": derive(say)})
