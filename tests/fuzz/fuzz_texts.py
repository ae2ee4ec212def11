"""Shell scripts, training scripts, launches, Slurm's answers and other texts, drawn by small grammars."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache

from fuzz_grammar import WORDS, is_odd, odd, one_of, value
from fuzz_world import MODELS, config, framework_words, trainer_words

from preflight.launchers.accelerate.argv import OPTIONS
from preflight.launchers.all import programs

FILES = (
    *("train.py", "sft.py", "a.yaml", "b.json", "c.toml", "ds.json", "plan.yaml", "run.sh", "job.sh"),
    *("missing.yaml", "model", "hostfile", "pipe", "zero", "loop", "rows.jsonl", ".", "..", "/dev/null"),
)  # fmt: skip
PLACES = ("localhost", "n0", "n[1-4]", "$MASTER_ADDR", "10.0.0.1")


def word(rng: random.Random) -> str:
    """Return a word of a command line: argv holds no NUL, and no half of a character."""
    drawn = one_of(rng, (*WORDS, *FILES, "1", "8", "True", "no"), 0.25)
    text = drawn if isinstance(drawn, str) else json.dumps(drawn)
    return text.replace("\0", "").encode("utf-8", "surrogateescape" if "\udcff" in text else "replace").decode("utf-8", "surrogateescape")  # fmt: skip


@lru_cache
def _flags(program: str) -> tuple[str, ...]:
    if program in ("accelerate", "accelerate-launch"):
        return tuple(f"--{option.key}" for option in OPTIONS)
    if program == "torchrun":
        return ("--nproc_per_node", "--nproc-per-node", "--nnodes", "--node_rank", "--rdzv_backend", "--rdzv_endpoint", "--standalone", "--master_port", "-m", "--no-python", "--max-restarts")  # fmt: skip
    if program in ("deepspeed", "ds", "deepspeed.pt"):
        return ("--num_gpus", "--num_nodes", "--include", "--exclude", "--hostfile", "--master_port", "--launcher", "--module", "--autotuning")  # fmt: skip
    names = {"axolotl": "axolotl", "llamafactory-cli": "llamafactory", "lmf": "llamafactory", "litgpt": "litgpt", "swift": "swift", "tune": "torchtune"}  # fmt: skip
    if program in names:
        return tuple(f"--{name}" for name in framework_words(names[program]))
    return ("-m", "-u", "-c", "-O")


def _options(rng: random.Random, flags: tuple[str, ...], most: int) -> list[str]:
    words = []
    for flag in rng.sample(flags, min(len(flags), rng.randrange(most))):
        if rng.random() < 0.4:
            words.append(f"{flag}={word(rng)}")
        else:
            words += [flag] + [word(rng)] * (rng.random() < 0.7)
    return words


def launch(rng: random.Random) -> list[str]:
    """Return the words of a launch: launcher, its options, a script or a config, and what follows."""
    program = rng.choice(
        (*programs(), "python", "torchrun", "accelerate", "accelerate", "deepspeed")
    )
    words = [program]
    found = programs().get(program)
    if found is not None and found.subcommands and rng.random() < 0.93:
        words.append(rng.choice((*found.subcommands, *found.trains_nothing[:2])))
    words += _options(rng, _flags(program), 7 if is_odd(rng, 1.0) else 2)
    if program == "tune":
        words += [rng.choice(("full_finetune_distributed", "lora_finetune_single_device", "x")), "--config", rng.choice(("llama3_1/8B_full", "a.yaml", "x"))]  # fmt: skip
        words += [f"{rng.choice(framework_words('torchtune'))}={word(rng)}" for _ in range(rng.randrange(4))]  # fmt: skip
    elif program in ("axolotl", "llamafactory-cli", "lmf", "swift"):
        words.append(rng.choice(("a.yaml", "b.json", "missing.yaml")))
    elif program == "torchrun" and rng.random() < 0.2:
        words += ["-m", "torchtitan.train", f"--job.config_file={rng.choice(('c.toml', 'x.toml'))}"]
        words += [f"--{name}={word(rng)}" for name in rng.sample(framework_words("torchtitan"), 4)]
    elif program != "litgpt":
        words.append(rng.choice(("train.py", "sft.py", "missing.py", "-m", "run.sh", "./train.py")))
    if not is_odd(rng, 0.3):
        words += ["--model_name_or_path", rng.choice(MODELS), "--per_device_train_batch_size", "1"]
    words += _options(rng, tuple(f"--{name}" for name in trainer_words()), 8 if is_odd(rng, 1.0) else 2)  # fmt: skip
    if rng.random() < 0.4:
        words += ["--model_name_or_path", rng.choice(MODELS), "--max_length", "64"]
    if is_odd(rng, 0.3):
        at = rng.randrange(len(words) + 1)
        words[at:at] = [word(rng)]
    if rng.random() < 0.15:
        words = [*rng.choice((["env", "A=1"], ["srun", "-N", "2"], ["timeout", "5"], ["nohup"], ["uv", "run"], ["bash", "-c"], ["conda", "run", "-n", "x"], ["apptainer", "exec", "x.sif"])), *words]  # fmt: skip
        if words[:2] == ["bash", "-c"]:
            words = ["bash", "-c", shlex.join(words[2:])]
    return words


def shell(rng: random.Random, depth: int = 0) -> str:
    """Return lines of a shell script."""
    return "\n".join(_statement(rng, depth) for _ in range(rng.randrange(1, 7)))


SHELL = (
    *("@N=@E", "export @N=@W", "@N=(@E b c)", "@N+=@E", "@L", "srun @L", "@L &\nwait", "eval @E"),
    *(
        "if @T; then\n@I\nelse\n@I\nfi",
        "for @N in @E b; do\n@I\ndone",
        "while @T; do\n@I\nbreak\ndone",
    ),
    *(
        "case @E in a*) @I;; *) @I;; esac",
        "f() {\n@I\n}\nf @E",
        "source @F",
        "sed -i 's/@X/b/' a.yaml",
    ),
    *("cat > a.yaml <<EOF\nnum_processes: @E\nEOF", "cat > made.yaml <<'EOF'\n@E\nEOF", "cd @F"),
    *(
        "set -euo pipefail; shift 2",
        "read -r @N < @F",
        "getopts ab: o",
        "trap @N EXIT",
        "module load x",
    ),
    *(
        "echo @E | awk '{print $1}' | tr a b",
        "exit 1",
        "bash @F",
        "# @W",
        "unset @N",
        "((",
        "fi",
        "}",
        "'",
    ),
    *("for ((i=0; i<9; i++)); do\n  N=$((N+i))\ndone", "declare -A M=([a]=1)\necho ${M[@X]}"),
    *(
        "printf -v @N '%05d' 7",
        "local @N=@E",
        "(@L)",
        "{ @L; } > log 2>&1",
        "! @T || @L",
        "exec @L",
    ),
)
EXPANSIONS = (
    *(
        "$@X",
        "${@X}",
        '"$@X"',
        "${@X:-@W}",
        "${@X[@]}",
        "${#@X}",
        "${@X%.*}",
        "${@X//a/b}",
        "${@X:1:2}",
    ),
    *(
        "$((@X * 2 ** 60))",
        "$(echo @X)",
        "$(nproc)",
        "`cat @F`",
        "${!@X}",
        "$@",
        "$#",
        "$?",
        "$$",
        "{1..9}",
    ),
    *(
        "{a,b}{c,d}",
        "*.py",
        "~",
        "<(echo @X)",
        "$'\\x41'",
        "${@X^^}",
        "${@X:?x}",
        "$((1/0))",
        "{1..99999999}",
    ),
)
TESTS = (
    '[ -z "$@X" ]',
    "[[ $N -gt 1 ]]",
    "true",
    "grep -q a @F",
    "((N < 3))",
    "test -f x",
    "[[ @E =~ a+ ]]",
)
NAMES = ("A", "B", "MODEL", "ARGS", "N", "SLURM_NNODES", "i", "CMD")
MOST_DEPTH = 3


def filled(rng: random.Random, template: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a template with each @LETTER drawn anew; nothing is drawn for what was not chosen."""
    return re.sub("@([A-Z])", lambda found: parts[found.group(1)](), template)


def _statement(rng: random.Random, depth: int) -> str:
    def expansion() -> str:
        return filled(rng, rng.choice(EXPANSIONS), parts)

    def inner() -> str:
        return "true" if depth >= MOST_DEPTH else shell(rng, depth + 1)

    def started() -> str:
        return " ".join(
            expansion() if rng.random() < 0.25 else shlex.quote(part) for part in launch(rng)
        )

    parts: dict[str, Callable[[], str]] = {
        "N": lambda: rng.choice(NAMES),
        "X": lambda: rng.choice(NAMES),
        "E": expansion,
        "W": lambda: shlex.quote(word(rng)),
        "F": lambda: rng.choice(FILES),
        "L": started,
        "I": inner,
        "T": lambda: filled(rng, rng.choice(TESTS), parts),
    }
    return filled(rng, rng.choice(SHELL), parts)


def job_script(rng: random.Random) -> str:
    """Return a script with options for sbatch."""
    options = ("--nodes=2", "-N1", "--gres=gpu:8", "--gpus-per-node=h100:8", "--gpus=4", "--mem=0", "-p h100", "--constraint=a&b", "--array=1-9%2", "--exclusive", "--wrap=x", f"--mem={odd(rng)!r}"[:60], "--time=1", "hetjob", "-C [a|b]", "--ntasks-per-node=8", "--cpus-per-gpu=x")  # fmt: skip
    lines = [f"#SBATCH {option}" for option in rng.sample(options, rng.randrange(1, 6))]
    return "\n".join([rng.choice(("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/python3")), *lines, shell(rng)]) + "\n"  # fmt: skip


def python(rng: random.Random) -> str:
    """Return a training script."""
    lines = [
        rng.choice(("import torch", "from transformers import *", "import transformers as t", "from trl import SFTConfig, SFTTrainer, TrlParser, ModelConfig", "from accelerate import Accelerator", "from x import y")),
        "from transformers import Trainer, TrainingArguments, AutoModelForCausalLM, BitsAndBytesConfig\nfrom peft import LoraConfig, get_peft_model\nimport argparse, os, yaml, json",
    ]  # fmt: skip
    for _ in range(rng.randrange(1, 9)):
        lines.append(_python_statement(rng))
    return "\n".join(lines) + "\n"


EXPRESSIONS = (
    *(
        "@V",
        "x",
        "args.bs",
        "os.environ.get('A', 'b')",
        "cfg['a']",
        "int(x)",
        "None",
        "2**x",
        "model",
    ),
    *(
        "(@E + @E)",
        "(@E if @E else 1)",
        "f'{x}'",
        "[@E for x in @E]",
        "dict(a=@E, **@E)",
        "max(@E, @E)",
    ),
    *(
        "(lambda q: @E)(1)",
        "{'a': @E}",
        "(@E)[@E]",
        "not @E",
        "(@E // @E)",
        "str(@E).split()[0]",
        "-@E",
    ),
)
STATEMENTS = (
    *(
        "x = @E",
        "x += @E",
        "TrainingArguments('out', @N=@E)",
        "c = SFTConfig(**@E)",
        "x: int",
        "global x",
    ),
    "args = argparse.ArgumentParser().parse_args()\nargs.bs = @E",
    "model = AutoModelForCausalLM.from_pretrained(@E, quantization_config=BitsAndBytesConfig(load_in_4bit=@E))",
    "model = get_peft_model(model, LoraConfig(r=@E, target_modules=@E))",
    "cfg = yaml.safe_load(open('@F'))",
    "def f(x=@E, *a, **k):\n    return @E\nx = f()",
    "if @E:\n    x = 1\nelse:\n    x = @E",
    "for x in @E:\n    y = x\n    break",
    "try:\n    x = @E\nexcept Exception:\n    pass",
    "parser = argparse.ArgumentParser()\nparser.add_argument('--@N', type=int, default=@E)\nargs = parser.parse_args()",
    "parser = TrlParser((SFTConfig, ModelConfig))\na, b = parser.parse_args_and_config()",
    "class C(Trainer):\n    x = @E\nC(model, c).train()",
    *(
        "from sft import *",
        "import train",
        "os.environ['A'] = @E",
        "with open('x') as f:\n    pass",
        "del x",
    ),
    *("match x:\n    case 1: pass\n    case _: x = 2", "model.gradient_checkpointing_enable()"),
    f"x = {'(' * 90}1{')' * 90}",
)


def _expression(rng: random.Random, depth: int = 0) -> str:
    simple = EXPRESSIONS[:9]
    parts: dict[str, Callable[[], str]] = {
        "V": lambda: repr(value(rng, 3)),
        "E": lambda: _expression(rng, depth + 1),
    }
    return filled(rng, rng.choice(simple if depth > 2 else EXPRESSIONS), parts)


def _python_statement(rng: random.Random) -> str:
    parts: dict[str, Callable[[], str]] = {
        "N": lambda: rng.choice(trainer_words()),
        "E": lambda: _expression(rng),
        "F": lambda: rng.choice(FILES),
    }
    return filled(rng, rng.choice(STATEMENTS), parts)


def slurm_answer(rng: random.Random, what: str) -> str:
    """Return what sinfo or scontrol may say of a small cluster, or of none."""
    gres = lambda: one_of(rng, ("gpu:h100:8", "gpu:a100:4(S:0-1)", "gpu:8", "(null)", "gpu:1g.10gb:7,nvme:1"), 0.1)  # noqa: E731  # fmt: skip
    names = [f"n{n}" for n in range(rng.randrange(4))]
    if what == "sinfo":
        lines = [f"{name}|{one_of(rng, ('gpu*', 'h100'))}|{gres()}|{one_of(rng, ('gpu_mem:80gb', 'nvlink,a', '(null)'))}|idle|{one_of(rng, (1000000, '5+'))}|{one_of(rng, (64, '8+'))}" for name in names]  # fmt: skip
    elif what == "jobs":
        jobs = [{"job_id": n, "name": odd(rng), "batch_flag": True, "partition": one_of(rng, ("gpu", "")), "tres_per_node": gres(), "node_count": one_of(rng, ({"set": True, "number": 2}, 2)), "command": odd(rng), "current_working_directory": one_of(rng, ("/tmp", "."))} for n in range(rng.randrange(4))]  # fmt: skip
        return json.dumps({"jobs": one_of(rng, (jobs,), 0.1)})
    else:
        lines = [f"NodeName={name} Gres={gres()} RealMemory={one_of(rng, (1000,))} CPUTot=8 Partitions=gpu" for name in names]  # fmt: skip
        lines += [f"PartitionName=gpu Default=YES DefMemPerNode={one_of(rng, ('UNLIMITED', 1000))} JobDefaults=DefMemPerGPU={one_of(rng, (5,))}"]  # fmt: skip
        lines += [f"SLURM_VERSION = {one_of(rng, ('24.11.5', '21.08', 'x'))}", "SelectTypeParameters = CR_CPU_MEMORY"]  # fmt: skip
    return "\n".join(lines).replace("\0", "") + "\n"


def readme(rng: random.Random) -> str:
    return f"# x\n\n```{rng.choice(('bash', 'sh', 'console', 'python', ''))}\n{shell(rng)}\n```\n\n    $ {' '.join(launch(rng))}\n"  # fmt: skip


def makefile(rng: random.Random) -> str:
    return f"N ?= {word(rng)}\nrun:\n\t@{shlex.join(launch(rng))} $(N) $@\n{shell(rng)}\n"


def rows(rng: random.Random) -> str:
    names = ("text", "input_ids", "messages", "length", "prompt", "image")
    lines = []
    for _ in range(rng.randrange(6)):
        row = {name: one_of(rng, (["a"], "a b", [1, 2, 3], 5, [{"role": "user", "content": "a"}])) for name in rng.sample(names, rng.randrange(1, 4))}  # fmt: skip
        lines.append(json.dumps(row if rng.random() < 0.93 else value(rng)))
    return "\n".join(lines) + "\n"


def guard_request(rng: random.Random) -> str:
    options = {name: one_of(rng, ("gpu", "gres/gpu:8", "h100", "set", "0?", "2"), 0.15) for name in rng.sample(("partition", "gres", "gpus", "constraint", "nodes", "mem", "exclusive", "wrap", "chdir", "array", "nodelist"), 4)}  # fmt: skip
    whole = {"version": 1, "program": one_of(rng, ("sbatch", "srun"), 0.1), "options": {**options, "argv": [rng.choice(FILES), word(rng)]}}  # fmt: skip
    if rng.random() < 0.4:
        whole["script"] = job_script(rng)
    return json.dumps(whole if rng.random() < 0.95 else {**whole, **config(rng)})
