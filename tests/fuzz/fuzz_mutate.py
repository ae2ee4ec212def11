"""Changes a seed: its texts, the structure of its configs, its command line, the code of its scripts. Deterministic."""

from __future__ import annotations

import ast
import copy
import json
import random
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import yaml
from fuzz_seeds import WRAPPERS, Seed

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    10**30,
    -(10**30),
    1.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "auto",
    "no",
    "none",
    "5e8",
    "1_000",
    "0x10",
    "\u0660\u0661",
    "two words",
    "a" * 3000,
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    ["x", 1],
    {"stage": "auto"},
    {"enabled": "auto"},
)
ODD_TEXTS = (
    "\0",
    "\ufeff",
    "\r\n",
    "\t",
    "\u2028",
    "\x85",
    "\x1b[31m",
    "&a [*a]",
    "*a",
    "<<: *a",
    "!!python/object:os.system {}",
    "? :",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "\\",
    "#",
    "%",
    "@",
    "$(date)",
    "${A:-b}",
    "`id`",
    "{{",
    "9" * 5000,
    "-" * 50,
    "1e999",
    ".nan",
    "0o17",
    "2026-01-01",
    "(" * 120,
    "[" * 120,
    "\U0001f600",
    "lambda: 0",
    "//",
)
ODD_WORDS = (
    "",
    "-",
    "--",
    "---",
    "--=",
    "-m",
    "-c",
    "--config_file",
    "--config_file=",
    "--num_processes",
    "--num_processes=99999999999999999999",
    "--nproc_per_node=auto",
    "--nnodes=1:4",
    "--nnodes=0",
    "--fsdp",
    "--deepspeed",
    "--deepspeed_config",
    "--use_fsdp",
    "--use_deepspeed",
    "--module",
    "--bf16",
    "--bf16=maybe",
    "--max_length=-1",
    "--max_length=1e3",
    "--per_device_train_batch_size=0",
    "--gradient_checkpointing_kwargs={",
    '--gradient_checkpointing_kwargs={"use_reentrant": null}',
    '--model_init_kwargs={"dtype": 7}',
    "--lora_target_modules",
    "--lora_r=x",
    "--optim=none",
    "--include=host:0@other:1-3",
    "--hostfile=.",
    "--help",
    "--version",
    "\0",
    "\u00e9",
    "\udce9",
    "a b",
    "*",
    "~",
    "~nobody/x",
    "/dev/null",
    ".",
    "..",
    "$HOME",
    "x" * 5000,
    "@args",
    "0",
    "-1",
    "nan",
    "{}",
    "[]",
    "null",
)
ODD_CODE = (
    "a = b\nb = a",
    "def f(): return f()\nx = f()",
    "TrainingArguments(**TrainingArguments)",
    "TrainingArguments(per_device_train_batch_size=-1, bf16='yes', optim=5, max_grad_norm='x')",
    "TrainingArguments(gradient_accumulation_steps=1e400, fp16=None, seq_len=[])",
    "LoraConfig(r='16', lora_alpha=None, target_modules=5)",
    "LoraConfig(r=[1], lora_dropout='a', modules_to_save={'a': 1})",
    "BitsAndBytesConfig(load_in_4bit='x', bnb_4bit_quant_type=7, bnb_4bit_compute_dtype=3)",
    "AutoModelForCausalLM.from_pretrained(5, dtype=7, attn_implementation=[])",
    "AutoModelForCausalLM.from_pretrained(*x, **y)",
    "Accelerator(mixed_precision=3, gradient_accumulation_steps='x')",
    "FullyShardedDataParallelPlugin(fsdp_version={}, reshard_after_forward='maybe')",
    "x = 1 if x else x",
    "y = {**y}",
    "z: int = z",
    "(w := w)",
    "x, y = y, x",
    "a, *b = c",
    "from .. import *",
    "from . import train",
    "import train, settings",
    "n = 10 ** 10 ** 10",
    "s = 'a' * 10 ** 9",
    "match x:\n    case {'a': [1, *_]}:\n        pass",
    "async def main():\n    await TrainingArguments()",
    "parser.add_argument('--x', type=int, default='y', dest=5, action=lambda: 0)",
    "parser.add_argument(*names, **options)",
    "training_args.bf16 = training_args",
    "tokenizer.model_max_length = -1",
    "training_args.per_device_train_batch_size = 'two'",
    "clip_grad_norm_(p, 'a')",
    "clip_grad_norm_(p, None)",
    "DataLoader(train, batch_size='x', shuffle=True)",
    "int('9' * 9)",
    "v = int('9999999999') << 999999",
    "class TrainingArguments(TrainingArguments): optim: str = field(default_factory=list)",
    "HfArgumentParser((A, B, TrainingArguments))",
    "a = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()[0][1]",
    "q = f'{q!r:>{q}}'",
    "os.environ[5]; os.environ.get(None); os.getenv('A', [])",
    "TrainingArguments(max_grad_norm=True, per_device_train_batch_size=True)",
    "TrainingArguments(max_grad_norm=float('nan'), eval_strategy=3, do_eval='x')",
    "TrainingArguments(fsdp={'a': 1}, fsdp_config=3, deepspeed=[1])",
    "TrainingArguments(fsdp=5, fsdp_config='missing.json', deepspeed={'zero_optimization': 3})",
    "TrainingArguments(accelerator_config=[], gradient_checkpointing_kwargs={'every_n_layers': 'x'})",
    "SFTConfig(max_length='a', packing=5, model_init_kwargs=[1], max_seq_length=None)",
    "SFTConfig(model_init_kwargs={'dtype': 5, 'attn_implementation': 3, 'quantization_config': {}})",
)


def mutated(seed: Seed, rng: random.Random) -> Seed:
    """Return the seed after one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        changes: list[Callable[[Seed, random.Random], Seed]] = [_own_words, _environment]
        if seed.files:
            changes += [_file_bytes, _file_structure, _file_structure, _file_structure]
        if any(name.endswith(".py") for name in seed.files):
            changes += [_script, _script, _script]
        if seed.launch:
            changes += [_launch_words, _launch_words, _shell_text, _wrap]
        seed = rng.choice(changes)(seed, rng)
    if rng.random() < 0.05 and seed.own[:1] == ("check",):
        seed = replace(seed, own=("fix", *seed.own[1:]))
    if rng.random() < 0.25 and "--format" not in seed.own:
        seed = replace(seed, own=(*seed.own, "--format", "json"))
    return seed


def _file_bytes(seed: Seed, rng: random.Random) -> Seed:
    name = rng.choice(sorted(seed.files))
    return replace(seed, files={**seed.files, name: _bytes(seed.files[name], rng)})


def _bytes(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(9)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1:
        return bytes(rng.randrange(256) if rng.random() < 0.02 else byte for byte in data)
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    if kind == 3:
        return data.replace(b"\n", b"\r\n" if rng.random() < 0.7 else b"\r")
    if kind == 4:
        return rng.choice((b"", b"\0" * 64, b"\xff\xfe", b"\x7fELF", rng.randbytes(200)))
    text = data.decode("utf-8", "replace")
    return _text(text, rng).encode("utf-8", "replace")


def _text(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(7)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines[at] = rng.choice(("  ", "\t", " ")) + lines[at]
    elif kind == 4:
        lines[at] = lines[at].replace(
            ": ", rng.choice((":", ": !!str ", ": &a ", ": *a ", ":\n  "))
        )
    else:
        position = rng.randrange(len(text) + 1)
        return text[:position] + rng.choice(ODD_TEXTS) + text[position + rng.randrange(3) :]
    return "\n".join(lines)


def _file_structure(seed: Seed, rng: random.Random) -> Seed:
    names = [name for name in sorted(seed.files) if name.endswith((".json", ".yaml", ".yml"))]
    if not names:
        return _file_bytes(seed, rng)
    name = rng.choice(names)
    try:
        value = yaml.safe_load(seed.files[name])
    except (yaml.YAMLError, ValueError, RecursionError):
        return _file_bytes(seed, rng)
    if not isinstance(value, dict) or not value:
        return _file_bytes(seed, rng)
    value = copy.deepcopy(value)
    _change_value(value, rng)
    if name.endswith(".json"):
        text = json.dumps(value, indent=rng.choice((None, 2)), default=str)
    else:
        try:
            text = yaml.safe_dump(value, sort_keys=False)
        except yaml.YAMLError:
            return seed
    return replace(seed, files={**seed.files, name: text.encode("utf-8", "replace")})


def _change_value(value: Any, rng: random.Random) -> None:
    """Change one entry somewhere below a mapping or a list."""
    holders: list[Any] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (dict, list)) and item:
            holders.append(item)
            waiting.extend(item.values() if isinstance(item, dict) else item)
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    kind = rng.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        new = f"{key}x" if rng.random() < 0.5 else rng.choice((7, True, None, "", str(key)[:-1]))
        holder[new] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def _script(seed: Seed, rng: random.Random) -> Seed:
    name = rng.choice([name for name in sorted(seed.files) if name.endswith(".py")])
    text = seed.files[name].decode("utf-8", "replace")
    if rng.random() < 0.4:
        lines = text.split("\n")
        at = rng.randrange(len(lines) + 1)
        before = lines[at - 1] if at else ""
        indent = before[: len(before) - len(before.lstrip())]
        lines[at:at] = [indent + line for line in rng.choice(ODD_CODE).split("\n")]
        text = "\n".join(lines)
    else:
        text = rng.choice((_other_code, _other_shape))(text, rng)
    return replace(seed, files={**seed.files, name: text.encode("utf-8", "replace")})


def _other_code(text: str, rng: random.Random) -> str:
    """Put expressions of a script, or odd ones, in the place of others."""
    try:
        tree = ast.parse(text)
        spare = ast.parse(rng.choice(ODD_CODE))
    except (SyntaxError, ValueError, RecursionError):
        return _text(text, rng)
    donors = [node for node in (*ast.walk(tree), *ast.walk(spare)) if isinstance(node, ast.expr)]
    places = [
        (node, name, index)
        for node in ast.walk(tree)
        for name, held in ast.iter_fields(node)
        for index, item in enumerate(held if isinstance(held, list) else [held])
        if isinstance(item, ast.expr)
    ]
    for _ in range(rng.randrange(1, 4)):
        if not places:
            break
        node, name, index = rng.choice(places)
        donor = copy.deepcopy(rng.choice(donors))
        if rng.random() < 0.4:
            donor = ast.Constant(
                rng.choice([v for v in ODD_VALUES if not isinstance(v, (list, dict))])
            )
        held = getattr(node, name)
        if isinstance(held, list):
            held[index] = donor
        else:
            setattr(node, name, donor)
    try:
        return ast.unparse(ast.fix_missing_locations(tree))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return text


def _other_shape(text: str, rng: random.Random) -> str:
    """Say the same otherwise, or leave parts of it out: arguments by name handed on together, statements under conditions."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return _text(text, rng)
    shaper = _Shaper(rng, rng.choice((0.01, 0.03, 0.1)))
    try:
        return ast.unparse(ast.fix_missing_locations(shaper.visit(tree)))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return text


def _name(word: str) -> ast.Name:
    return ast.Name(word, ast.Load())


class _Shaper(ast.NodeTransformer):
    """Changes the shape of some statements, calls and definitions of a script."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self.rng, self.share = rng, share

    def generic_visit(self, node: ast.AST) -> Any:
        super().generic_visit(node)
        change = getattr(self, f"of_{type(node).__name__.lower()}", None)
        if change is None or self.rng.random() > self.share:
            return node
        return change(node)

    def of_call(self, node: ast.Call) -> ast.expr:
        named = [each for each in node.keywords if each.arg is not None]
        match self.rng.randrange(7 if named else 2):
            case 0:
                node.keywords.append(ast.keyword(None, _name("more")))
            case 1:
                node.args.insert(0, ast.Starred(_name("more"), ast.Load()))
            case 2:
                keys = [ast.Constant(each.arg) for each in named]
                node.keywords = [ast.keyword(None, ast.Dict(keys, [e.value for e in named]))]
            case 3:
                node.keywords.remove(self.rng.choice(named))
            case 4:
                one = self.rng.choice(named)
                one.value = ast.IfExp(_name("ready"), one.value, ast.Constant(None))
            case 5:
                self.rng.choice(named).value = _name("nobody_knows")
            case _:
                node.args += [each.value for each in named]
                node.keywords = []
        return node

    def of_assign(self, node: ast.Assign) -> ast.stmt:
        target = node.targets[0]
        match self.rng.randrange(6 if isinstance(target, ast.Name) else 3):
            case 0:
                return ast.If(_name("ready"), [node], [])
            case 1:
                return ast.For(ast.Name("i", ast.Store()), _name("several"), [node], [])
            case 2:
                return ast.Try([node], [ast.ExceptHandler(None, None, [ast.Pass()])], [], [])
            case 3:
                return ast.AnnAssign(target, _name("int"), node.value, 1)
            case 4:
                return ast.AugAssign(target, ast.Add(), node.value)
            case _:
                return ast.Expr(ast.NamedExpr(target, node.value))

    def of_functiondef(self, node: ast.FunctionDef) -> ast.stmt:
        match self.rng.randrange(4):
            case 0:
                node.args.kwarg = ast.arg("kw")
            case 1:
                node.args.vararg = ast.arg("more")
            case 2:
                node.body = [ast.Pass()]
            case _:
                node.decorator_list.append(_name("wrapped"))
        return node

    def of_classdef(self, node: ast.ClassDef) -> ast.stmt:
        if self.rng.random() < 0.5:
            node.bases = []
        else:
            node.body = [ast.Pass()]
        return node

    def of_if(self, node: ast.If) -> ast.stmt:
        node.body, node.orelse = node.orelse or [ast.Pass()], node.body
        return node

    def of_dict(self, node: ast.Dict) -> ast.expr:
        node.keys.append(None)
        node.values.append(_name("rest"))
        return node

    def of_list(self, node: ast.List) -> ast.expr:
        every = ast.comprehension(ast.Name("one", ast.Store()), node, [], 0)
        return ast.ListComp(_name("one"), [every])


def _words(words: tuple[str, ...], rng: random.Random, first: int) -> tuple[str, ...]:
    kept = list(words)
    at = rng.randrange(first, len(kept)) if len(kept) > first else len(kept)
    kind = rng.randrange(7)
    if kind == 0 and at < len(kept):
        del kept[at]
    elif kind == 1 and at < len(kept):
        kept.insert(at, kept[at])
    elif kind == 2 and at < len(kept):
        other = rng.randrange(first, len(kept))
        kept[at], kept[other] = kept[other], kept[at]
    elif kind == 3 and at < len(kept):
        kept[at] = _text(kept[at], rng).replace("\n", " ")
    elif kind == 4 and at + 1 < len(kept):
        kept[at : at + 2] = [f"{kept[at]}={kept[at + 1]}"]
    elif kind == 5 and at < len(kept):
        kept[at] = rng.choice(ODD_WORDS)
    else:
        kept.insert(at, rng.choice(ODD_WORDS))
    return tuple(kept)


def _launch_words(seed: Seed, rng: random.Random) -> Seed:
    return replace(seed, launch=_words(seed.launch, rng, 0 if rng.random() < 0.1 else 1))


def _own_words(seed: Seed, rng: random.Random) -> Seed:
    if rng.random() < 0.5:
        return replace(seed, own=_words(seed.own, rng, 1))
    field = rng.choice(("seq_len", "engine", "adapter", "adapter.rank", "deepspeed", "optimizer",
                        "world_size", "shard_degree", "micro_batch_size", "loss", "versions",
                        "model_config", "wrap_classes", "max_grad_norm", "base_quantization.scheme",
                        "deepspeed.reduce_bucket_size", "torch_compile", "cwd", "source", "origins"))  # fmt: skip
    value = rng.choice(("1", "0", "-1", "null", "[]", "{}", "x", "true", "1e400", "10000000000000000000000",
                        "{a: 1}", "[1, 2]", "{rank: x}", "*a", "&a [*a]", "", "fsdp2", "zero3", "full", ".nan"))  # fmt: skip
    return replace(seed, own=(*seed.own, "--set", f"{field}={value}"))


def _environment(seed: Seed, rng: random.Random) -> Seed:
    name = rng.choice(("CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "LOCAL_RANK", "SLURM_NNODES", "SLURM_NTASKS",
                       "FSDP_VERSION", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "NPROC_PER_NODE",
                       "PYTORCH_ALLOC_CONF", "ACCELERATE_MIXED_PRECISION", "HF_HOME", "MASTER_PORT", "BASE",
                       "ACCELERATE_DEEPSPEED_CONFIG_FILE", "FSDP_SHARDING_STRATEGY", "SLURM_STEP_NUM_TASKS",
                       "LOCAL_WORLD_SIZE", "PET_NPROC_PER_NODE", "OMP_NUM_THREADS", "FSDP_MIN_NUM_PARAMS"))  # fmt: skip
    value = rng.choice(("", "0", "1", "-1", "x", "0,1,2", "99999999999999999999", "\u0661", "\u00b2", "true",
                        "expandable_segments:True", ":", "0-3", "MIG-x", "1.5", " 2", "nan", "fp8"))  # fmt: skip
    return replace(seed, env={**seed.env, name: value})


def _shell_text(seed: Seed, rng: random.Random) -> Seed:
    text = shlex.join(seed.launch)
    before = rng.choice(
        (
            "",
            "cd run && ",
            "export A=1; ",
            "set -e\n",
            "source x.sh; ",
            "A=$(date) ",
            "for i in 1 2; do ",
        )
    )
    after = rng.choice(
        (
            "",
            " | tee log",
            " > out 2>&1",
            " &",
            " && python done.py",
            "; done",
            " <<EOF\nx\nEOF",
            "\\",
        )
    )
    text = before + text + after
    if rng.random() < 0.7:
        text = _text(text, rng)
    return replace(
        seed,
        launch=(rng.choice(("bash", "sh", "/bin/bash")), rng.choice(("-c", "-lc", "-euc")), text),
    )


def _wrap(seed: Seed, rng: random.Random) -> Seed:
    words = shlex.join(seed.launch)
    form = rng.choice(WRAPPERS)
    try:
        launch = tuple(shlex.split(form.format(words=words, text=shlex.quote(words))))
    except ValueError:
        return seed
    return replace(seed, launch=launch)
