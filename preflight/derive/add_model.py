"""`python -m preflight.derive.add_model NAME CONFIG`: put a model, or another name of one, into the registry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preflight.derive.target import ROOT
from preflight.errors import BadInput
from preflight.models import describe, lays_out, registry
from preflight.models.folder import read_config
from preflight.models.name_rules import packing_of

PATHS = ("preflight/models/models.tsv", "preflight/models/names.tsv")
"""The files of the registry, from the root."""
USAGE = """\
python -m preflight.derive.add_model NAME CONFIG --source WHERE [--params N] [--gated]
       python -m preflight.derive.add_model NAME --like MODEL"""
ABOUT = """\
Put a model into the registry: NAME is its id on the hub, CONFIG its config.json.
Keys that no size depends on are left out, the parameters are added up, and the line is put where
it belongs. With --like, NAME becomes another name of a model that is there: only where somebody
has looked that both have the same shapes."""

DEAD = frozenset(
    {
        "_name_or_path", "_attn_implementation", "auto_map", "bos_token_id",
        "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
        "initializer_range", "init_std", "use_cache", "transformers_version",
        "quantization_config", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon",
        "norm_epsilon", "norm_eps", "rope_theta", "routed_scaling_factor",
        "router_aux_loss_coef", "image_token_id", "image_token_index", "video_token_id",
        "vision_start_token_id", "vision_end_token_id", "ignore_index", "num_logits_to_keep",
        "use_mamba_kernels", "id2label", "label2id", "task_specific_params",
    }
)  # fmt: skip
"""Keys of a config that no size, dtype or saved tensor depends on."""


def main(args: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Add what the command line says; return the exit code."""
    options = parsed(args)
    try:
        model, name = lines_for(options)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    for path, line in zip(PATHS, (model, name), strict=True):
        if line:
            (root / path).write_text(with_line((root / path).read_text(), line))
            print(f"{path}: {line[:100]}")
    return 0


def lines_for(options: argparse.Namespace) -> tuple[str, str]:
    """Return the line of models.tsv and that of names.tsv; one of them is empty."""
    entry, other = registry.find(options.name)
    if entry is not None and (other is None or other.evidence not in registry.GUESSES):
        raise BadInput.one(f"{options.name} is known: {entry.id}")
    if options.like:
        like, other = registry.find(options.like)
        if like is None or other is not None:
            raise BadInput.one(
                f"there is no model {options.like}", fix="--like takes the id of a row"
            )
        return "", "\t".join((options.name, like.id, "stated", "", packing_of(options.name)))
    if not (options.config and options.source):
        raise BadInput.one("a model needs its config.json and --source, where that was read")
    config = minimal(read_config(options.config))
    count, checked = counted(config, options.name, options.params)
    access = "gated" if options.gated else "open"
    text = json.dumps(config, separators=(",", ":"), sort_keys=True)
    return "\t".join((options.name, str(count), checked, access, options.source, text)), ""


def minimal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the keys that nothing depends on, in its sections too."""
    return {
        key: minimal(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in DEAD
    }


def counted(config: Mapping[str, Any], name: str, published: int | None) -> tuple[int, str]:
    """Return the parameters of a config and how far they were checked; raise BadInput where two counts differ."""
    if not lays_out(config):
        if published is None:
            raise BadInput.one(
                f"the parameters of model_type {config.get('model_type')!r} are not laid out here",
                fix="--params N, as the hub shows them (Model size) or the index of its weights",
            )
        return published, "published"
    count = describe(config, name, "").num_params
    if published is None:
        return count, "counted"
    if published != count:
        raise BadInput.one(
            f"the config adds up to {count:,} parameters, and {published:,} are published",
            fix="look which it is: a tied head is counted once, buffers are no parameters",
        )
    return count, "exact"


def with_line(text: str, line: str) -> str:
    """Return a file of the registry with one line more, each where a lookup seeks it."""
    head, *lines = text.splitlines()
    return "\n".join((head, *sorted((*lines, line), key=registry.line_key))) + "\n"


def parsed(args: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        usage=USAGE, description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("config", metavar="CONFIG", nargs="?")
    parser.add_argument("--source", help="where the config was read, in public")
    parser.add_argument("--params", type=int, help="the published number of parameters")
    parser.add_argument("--gated", action="store_true", help="the hub asks for a token")
    parser.add_argument("--like", metavar="MODEL", help="the id of the model that it is like")
    return parser.parse_args(args)


if __name__ == "__main__":
    raise SystemExit(main())
