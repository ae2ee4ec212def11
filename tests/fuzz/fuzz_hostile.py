"""Inputs made to hurt a reader: deep, endless, doubling, looping, no text at all. Each must be answered soon."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fuzz_seeds import Seed

LAUNCH = ("accelerate", "launch", "--num_processes", "2")
CONFIG = (*LAUNCH[:2], "--config_file", "c.yaml", "train.py")
DS = (*LAUNCH, "--use_deepspeed", "--deepspeed_config_file", "ds.json", "train.py")
START = "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
END = "TrainingArguments('o', per_device_train_batch_size=x)\n"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)
DOUBLED_SHELL = "A=aaaaaaaaaa; " + "A=$A$A; " * 45 + "accelerate launch train.py $A"

YAMLS = {
    "deep flow": "a: " + "[" * 20_000,
    "deep closed flow": "a: " + "[" * 3_000 + "]" * 3_000,
    "deep flow maps": "a: " + "{a: " * 3_000 + "}" * 3_000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(1_200)),
    "deep dashes": "a:\n  " + "- " * 3_000,
    "laughs": LAUGHS,
    "merges": MERGES,
    "itself": "a: &a [*a, *a]\nfsdp_config: &b {x: *b}\n",
    "merges itself": "fsdp_config: &b\n  <<: *b\n",
    "long line": "a: " + "x" * 2_000_000,
    "many keys": "".join(f"k{n}: {n}\n" for n in range(8_000)),
    "one key often": "num_processes: 2\n" * 8_000,
    "huge number": "num_processes: " + "9" * 6_000,
    "huge fsdp number": "distributed_type: FSDP\nfsdp_config:\n  fsdp_min_num_params: "
    + "9" * 6_000,
    "sexagesimal": "num_processes: " + "1:" * 3_000 + "1",
    "many documents": "---\na: 1\n" * 3_000,
    "nul": "num_processes: 2\0\n",
    "marks": "\ufeffdistributed_type: 'NO'\r\nnum_processes: 2\r\n",
    "old mac": "distributed_type: NO\rnum_processes: 2\r",
    "binary tag": "num_processes: !!binary aGk=\nmixed_precision: !!python/name:os.system\n",
    "complex key": "? [a, b]\n: 1\n? {c: d}\n: 2\n",
    "timestamp": "num_processes: 2026-13-45\nmixed_precision: 2026-99-99T99:99:99Z\n",
}
JSONS = {
    "deep": '{"a": ' + "[" * 100_000,
    "deep closed": '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "deep maps": '{"a": ' * 5_000 + "1" + "}" * 5_000,
    "huge number": '{"train_batch_size": ' + "9" * 6_000 + "}",
    "huge float": '{"train_batch_size": 1e999999, "gradient_clipping": -1e999}',
    "one key often": "{" + ", ".join('"a": 1' for _ in range(8_000)) + "}",
    "surrogates": '{"a\\ud800": "\\udfff"}',
    "nul": '{"a": "\\u0000", "zero_optimization": {"stage": "\\u0000"}}',
    "list": "[1, 2]",
    "text": '"a"',
    "comments": '// x\n{"a": 1, /* y */ "b": NaN,}',
    "spaces": " " * 2_000_000 + "{",
}
SCRIPTS = {
    "deep parentheses": "x = " + "(" * 150 + "1" + ")" * 150 + "\n",
    "too deep": "x = " + "(" * 5_000 + "1" + ")" * 5_000 + "\n",
    "long sum": "x = " + "+".join(["1"] * 9_000) + "\n",
    "long or": "x = " + " or ".join(["0"] * 9_000) + "\n",
    "long chain": "x = a" + ".b" * 4_000 + "\n",
    "long calls": "x = a" + "()" * 3_000 + "\n",
    "deep unary": "x = " + "-" * 3_000 + "1\n",
    "deep not": "x = " + "not " * 3_000 + "1\n",
    "deep if": "".join(" " * n + "if a:\n" for n in range(90)) + " " * 90 + "x = 1\n",
    "long elif": "if a: x = 1\n" + "".join(f"elif a == {n}: x = {n}\n" for n in range(2_500)),
    "doubling names": "a0 = 1\n"
    + "".join(f"a{n} = a{n - 1} + a{n - 1}\n" for n in range(1, 60))
    + "x = a59\n",
    "doubling texts": "a0 = 'aaaaaaaa'\n"
    + "".join(f"a{n} = a{n - 1} + a{n - 1}\n" for n in range(1, 24))
    + "x = a23\n",
    "doubling lists": "a0 = [1]\n"
    + "".join(f"a{n} = [a{n - 1}, a{n - 1}]\n" for n in range(1, 24))
    + "x = a23\n",
    "doubling dicts": "a0 = {'k': 1}\n"
    + "".join(f"a{n} = dict(p=a{n - 1}, q=a{n - 1})\n" for n in range(1, 24))
    + "x = a23\n",
    "doubling calls": "def f0(): return 1\n"
    + "".join(f"def f{n}(): return f{n - 1}() + f{n - 1}()\n" for n in range(1, 40))
    + "x = f39()\n",
    "name often": "x = 1\n" * 6_000,
    "name often, used often": "x = y\ny = x\n" * 600,
    "many calls": "".join(
        f"a{n} = TrainingArguments('o', max_grad_norm=a{n})\n" for n in range(1_500)
    ),
    "many functions": "".join(f"def f{n}(a): return f{n + 1}(a)\n" for n in range(1_500))
    + "x = f0(1)\n",
    "many arguments": "".join(
        f"p.add_argument('--a{n}', default=p.parse_args().a{n})\n" for n in range(800)
    )
    + "x = p.parse_args().a7\n",
    "many classes": "".join(
        f"class A{n}(TrainingArguments):\n    a: int = A{n}.a\n" for n in range(800)
    ),
    "many lines": "y = 1\n" * 20_000,
    "huge number": "x = " + "9" * 5_000 + "\n",
    "shift": "x = 1 << (1 << 40)\n",
    "power": "x = 9 ** 9 ** 9 ** 9\n",
    "format": "x = '%999999999d' % 1\n",
    "wide format": "x = f'{1:999999999}'\n",
    "modulo text": "x = '%s' * 99 % tuple(range(9))\n",
    "itself": "import train\nfrom train import x\nx = train.x\n",
    "imports": "".join(f"import m{n}\n" for n in range(3_000)) + "x = m1.x\n",
    "star": "from train import *\n",
    "escapes": "x = '\\ud800'\n" * 50,
    "tabs": "if 1:\n\tx = 1\n        y = 2\n",
    "form feed": "\f\f x = 1\n",
    "walrus": "x = (y := (z := (x := 1)))\n",
}
SHELLS = {
    "doubling": DOUBLED_SHELL,
    "quotes": "'" * 9_999,
    "dollars": "accelerate launch train.py " + "$" * 50_000,
    "parentheses": "accelerate launch train.py " + "$(" * 20_000,
    "braces": "accelerate launch train.py " + "${" * 20_000,
    "defaults": "accelerate launch train.py " + "${A:-" * 3_000 + "}" * 3_000,
    "backslashes": "accelerate launch train.py " + "\\" * 50_001,
    "many commands": "true; " * 5_000 + "accelerate launch train.py",
    "many words": "accelerate launch train.py " + "x " * 50_000,
    "many exports": "".join(f"export A{n}=$A{n - 1}x; " for n in range(1, 1_500))
    + "accelerate launch train.py",
    "heredocs": "cat <<A <<B\n" * 500 + "accelerate launch train.py",
    "pipes": "|" * 5_000,
    "comments": "#" * 100_000 + "\naccelerate launch train.py",
    "globs": "accelerate launch train.py " + "*" * 20_000 + "{a,b}" * 5_000,
}


def hostile() -> list[tuple[str, Seed, Callable[[Path], None] | None]]:
    """Return name, input, and what else has to be made in the folder."""
    plain: dict[str, bytes] = {"train.py": START.encode()}
    made: list[tuple[str, Seed, Callable[[Path], None] | None]] = []

    def add(
        name: str,
        launch: tuple[str, ...] = (),
        own: tuple[str, ...] = ("check",),
        prepare: Callable[[Path], None] | None = None,
        **files: str,
    ) -> None:
        texts = {
            key.replace("__", "."): text.encode("utf-8", "surrogatepass")
            for key, text in files.items()
        }
        made.append((name, Seed(name, {**plain, **texts}, own, launch), prepare))

    for name, text in YAMLS.items():
        add(f"yaml {name}", CONFIG, c__yaml=text)
        add(f"plan {name}", (), ("estimate", "plan.yaml"), plan__yaml=text)
        add(f"policy {name}", CONFIG, ("check", "--policy", "p.yaml"), p__yaml=text, c__yaml="")
        add(f"trl {name}", ("trl", "sft", "--config", "c.yaml"), c__yaml=text)
    for name, text in JSONS.items():
        add(f"json {name}", DS, ds__json=text)
        add(
            f"model {name}",
            (*LAUNCH, "train.py"),
            ("check", "--set", "model_config=m.json"),
            m__json=text,
        )
        add(f"rows {name}", (*LAUNCH, "train.py"), ("check", "--dataset", "d.jsonl"), d__jsonl=text)
        add(f"arguments {name}", (*LAUNCH, "train.py", "run.json"), run__json=text)
    for name, text in SCRIPTS.items():
        add(f"script {name}", (*LAUNCH, "train.py"), train__py=START + text + END)
    for name, text in SHELLS.items():
        add(f"shell {name}", ("bash", "-c", text))
    for name, text in (
        ("deep", "a = " + "[" * 5_000),
        ("dots", "a" + ".a" * 3_000 + " = 1"),
        ("nul", "a = 1\0"),
    ):
        add(f"toml {name}", (*LAUNCH, "train.py"), preflight__toml=text)
        add(f"pyproject {name}", (*LAUNCH, "train.py"), pyproject__toml=text)
    nested = "accelerate launch train.py"
    for _ in range(11):
        nested = f"bash -c {nested!r}" if "'" not in nested else f"env A=1 {nested}"
    add("nested wrappers", ("bash", "-c", nested))
    add("env of env", ("env",) * 500 + ("A=1",) * 500 + (*LAUNCH, "train.py"))
    add("many words", (*LAUNCH, "train.py", *(f"--a{n}={n}" for n in range(5_000))))
    add("long word", (*LAUNCH, "train.py", "--" + "a" * 500_000))
    for target in ("/dev/zero", "/dev/full", "/proc/self/mem", "/", "loop", "pipe", "gone"):
        config = (*LAUNCH[:2], "--config_file", target, "train.py")
        add(f"config is {target}", config, prepare=_odd_files)
        add(f"script is {target}", (*LAUNCH, target), prepare=_odd_files)
        add(f"trl config is {target}", ("trl", "sft", "--config", target), prepare=_odd_files)
        add(
            f"zero config is {target}",
            (*LAUNCH, "train.py", "--deepspeed", target),
            prepare=_odd_files,
        )
        model = (*LAUNCH, "train.py", "--model_name_or_path", f"./{target}")
        add(f"model is {target}", model, prepare=_odd_files)
        if target != "pipe":  # which is asked for, and waits for its writer
            add(
                f"policy is {target}", CONFIG, ("check", "--policy", target), _odd_files, c__yaml=""
            )
            add(f"plan is {target}", (), ("estimate", target), _odd_files)
            add(
                f"rows are {target}",
                (*LAUNCH, "train.py"),
                ("check", "--dataset", target),
                _odd_files,
            )
    for name in ("preflight.toml", "pyproject.toml", "preflight_hooks.py", "settings.py"):
        add(
            f"{name} is a pipe",
            (*LAUNCH, "train.py"),
            prepare=_pipe_called(name),
            train__py="import settings\n" + START + END,
        )
    return made


def _odd_files(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")


def _pipe_called(name: str) -> Callable[[Path], None]:
    return lambda folder: os.mkfifo(folder / name)
