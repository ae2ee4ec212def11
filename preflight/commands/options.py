"""What every command takes: the options, the command after `--`, and the request they make."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from preflight.commands.parser import Parser
from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.load import parse_json, read_data_file, read_text_file
from preflight.launch import CHOICES, NESTED, PLAN_FIELDS, LaunchPlan
from preflight.near_names import nearest_fix
from preflight.policy import Policy, policy_from_dict
from preflight.shell.starters.typed_words import as_program

if TYPE_CHECKING:
    from preflight.datasets.lengths import RowLengths
    from preflight.devices.prices import Price

FITS = 0
DOES_NOT_FIT = 1
BAD_INPUT = 2
FAILED = 3
NOT_STARTED = 78
INTERRUPTED = 130
BROKEN_PIPE = 141

NAMES = ("vision.frozen",)
"""Nested fields that hold names, which are written with commas between them."""


def add_output_options(parser: Parser, for_review: bool = False) -> None:
    """Add the options that say how a report looks."""
    group = parser.add_argument_group("output")
    formats = ("text", "json", *(("sarif", "github") if for_review else ()))
    group.add_argument("--format", choices=formats, default="text")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="every term and plan value with its source"
    )
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")


def add_launch_options(parser: Parser) -> None:
    """Add the options that say what is checked, and what may be changed."""
    group = parser.add_argument_group("what to check against")
    group.add_argument(
        "--device",
        "--gpu",
        metavar="DEVICE",
        help="a key of the GPU table (h100-sxm-80, t4-16), a device name, NAME:GIB, or auto",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a plan value that the files do not say: seq_len=4096, model_config=FILE, adapter.rank=16",
    )
    add_online_option(group)
    group.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="FILE",
        help="the longest batch of this .jsonl, .parquet or .arrow file; may be repeated",
    )
    group.add_argument(
        "--tokenizer", metavar="FOLDER", help="count the dataset's text with this tokenizer"
    )
    group.add_argument(
        "--column", metavar="NAME", help="the dataset's column of lengths, token ids or text"
    )
    group.add_argument(
        "--prices",
        metavar="FILE",
        help="dollars per GPU and hour in place of the listed ones, as YAML or JSON: `h100-sxm-80: 2.5`",
    )
    group = parser.add_argument_group("what may be changed")
    group.add_argument("--policy", metavar="FILE", help="a YAML file: allow, forbid, refuse, ...")
    group.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="ID",
        help="apply this remedy too, although it changes training",
    )
    group.add_argument(
        "--forbid",
        action="append",
        default=[],
        metavar="ID",
        help="never apply or suggest this one",
    )
    group.add_argument("--no-rewrite", action="store_true", help="change nothing; check and refuse")


def add_online_option(group: Any) -> None:
    """Add the option without which nothing asks a network."""
    group.add_argument(
        "--online",
        action="store_true",
        help="download the model's config.json into the Hugging Face cache if it is not there; no network without it",
    )


def add_report_option(parser: Parser, shows: str = "the diff, every origin, sliders") -> None:
    """Add the option that writes the report as a page too; `shows` is what it has beside bars."""
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help=f"write the report as one HTML file too: pictures, {shows}",
    )


def add_here_option(parser: Parser) -> None:
    """Add the option that says that the ranks will start on this node."""
    parser.add_argument(
        "--here",
        action="store_true",
        help="the launch is for this node: compare its memory, disk, ports and packages too"
        " (as `--device auto` does, and `run` where no device is named)",
    )


def split_command(name: str, parser: Parser, args: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return preflight's own arguments and the launch command after the first `--`."""
    if "--" in args:
        at = args.index("--")
        if at + 1 == len(args):
            raise BadInput.one(
                "no command after `--`", fix=f"preflight {name} -- accelerate launch ..."
            )
        return args[:at], as_program(args[at + 1 :])
    at = first_positional(parser, args)
    if "-h" in args[:at] or "--help" in args[:at]:
        return args[:at], ()
    if at == len(args):
        raise BadInput.one(
            "no command to check", fix=f"preflight {name} -- accelerate launch train.py ..."
        )
    corrected = ["preflight", name, *args[:at], "--", *args[at:]]
    raise BadInput.one("the command must come after `--`", fix=shlex.join(corrected))


def first_positional(parser: Parser, args: list[str]) -> int:
    """Return the index of the first argument that is neither an option of ours nor its value."""
    takes_value = set(parser.options_with_value())
    at = 0
    while at < len(args) and args[at].startswith("-"):
        at += 2 if args[at] in takes_value else 1
    return min(at, len(args))


def settings_from(pairs: list[str]) -> dict[str, Any]:
    """Return the values of `--set FIELD=VALUE`, parsed; raise BadInput naming every wrong one."""
    problems: list[Problem] = []
    settings: dict[str, Any] = {}
    for pair in pairs:
        where = f"--set {pair}"
        name, equals, text = pair.partition("=")
        if not equals:
            problems.append(Problem("--set takes FIELD=VALUE", where))
            continue
        outer, dot, inner = name.partition(".")
        if outer not in PLAN_FIELDS or (dot and not inner):
            problems.append(
                Problem(f"there is no plan field {name!r}", where, nearest_fix(outer, PLAN_FIELDS))
            )
            continue
        try:
            value = _setting(name, text, where)
            if inner:
                problems.extend(_nested_problems(outer, inner, value, where))
            settings[name] = value
        except BadInput as error:
            problems.extend(error.problems)
    raise_if_any(problems)
    return settings


def _setting(name: str, text: str, where: str) -> Any:
    import yaml

    if name == "model_config" and not text.lstrip().startswith("{"):
        return _model_config(text)
    if text in CHOICES.get(name, ()):  # `no` and `none` are words here, not YAML
        return text
    if name.startswith("versions."):  # 1.10 is no number
        return text
    if name in NAMES:
        return tuple(part.strip() for part in text.strip("[]").split(",") if part.strip())
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput.one("the value is not readable as YAML", where) from error
    if isinstance(value, (dict, list)):
        # A mapping or a list becomes what the plan holds, with the checks of a plan file.
        from preflight.plan_dict import plan_from_dict

        return getattr(plan_from_dict({name: value}, where), name)
    known = {f.name: f for f in fields(LaunchPlan)}
    if value is None and name in known:
        return known[name].default
    return value


def _model_config(path: str) -> Mapping[str, Any]:
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        path = os.path.join(path, "config.json")
    value = parse_json(read_text_file(path), path)
    if not isinstance(value, dict):
        raise BadInput.one("a model config must be a JSON object", path)
    return value


def _nested_problems(outer: str, inner: str, value: Any, where: str) -> Iterator[Problem]:
    if outer == "versions":
        if not str(value)[:1].isdigit():
            yield Problem(f"{outer}.{inner} must be a version, not {value!r}", where, "1.16.0")
        return
    cls = NESTED.get(outer)
    known = {} if cls is None else {f.name: f.default for f in fields(cls)}
    if inner not in known:
        fix = nearest_fix(inner, tuple(known))
        yield Problem(f"there is no plan field {outer}.{inner}", where, fix)
        return
    default = known[inner]
    if default is not None and type(value) is not type(default):
        kind = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        if isinstance(default, float) and type(value) is int:
            return
        wanted = kind.get(type(default).__name__, "text")
        yield Problem(f"{outer}.{inner} must be {wanted}, not {value!r}", where)


def lengths_from(options: Any) -> RowLengths | None:
    """Return how long the rows of `--dataset` are; None where it was not given."""
    if options.dataset:
        from preflight.commands.dataset import lengths_of

        return lengths_of(tuple(options.dataset), options.tokenizer, options.column)
    alone = [name for name in ("tokenizer", "column") if getattr(options, name) is not None]
    raise_if_any(
        Problem(f"--{name} says how a dataset is read, and none is given", fix="--dataset FILE")
        for name in alone
    )
    return None


def prices_from(options: Any) -> Mapping[str, Price] | None:
    """Return the prices of `--prices`; None where it was not given."""
    if options.prices is None:
        return None
    from preflight.devices.prices import read_prices

    return read_prices(options.prices)


def policy_from(options: Any, of_repository: Mapping[str, Any] | None = None) -> Policy:
    """Return the repository's policy, with the keys of `--policy` in their place, and what options add."""
    keys: dict[str, Any] = dict(of_repository or {})
    if options.policy is not None:
        given = read_data_file(options.policy).value
        policy_from_dict(given, options.policy)
        keys.update(given)
    policy = policy_from_dict(keys) if keys else Policy()
    return replace(
        policy,
        allow=policy.allow | set(options.allow),
        forbid=policy.forbid | set(options.forbid),
        rewrite=policy.rewrite and not options.no_rewrite,
    )


def unknown_remedies(policy: Policy, known: list[str] | None) -> Iterator[Problem]:
    """Yield a problem for every remedy that a policy names and nobody has; none where any may exist."""
    if known is None:
        return
    for name in sorted(policy.allow | policy.forbid):
        if name not in known:
            yield Problem(
                f"there is no remedy {name!r}",
                "--allow, --forbid or the policy file",
                nearest_fix(name, tuple(known)) or f"known: {', '.join(known)}",
            )
