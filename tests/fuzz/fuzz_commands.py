"""Every command with arguments from its own parser, in a folder of drawn files, under an audit of what it does.

A new command or option is fuzzed without a word here: names, choices and metavars come from argparse.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import json
import os
import random
import re
import stat
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import fuzz_texts as texts
import fuzz_world as world
from fuzz_grammar import damaged, is_odd, odd, one_of, text_of
from fuzz_try import Hangs, _alarm

from preflight.cli import STARTERS, main
from preflight.commands import COMMANDS
from preflight.commands.parser import Parser, parser_of
from preflight.commands.slurm import WORDS as SLURM_WORDS
from preflight.launch import PLAN_FIELDS
from preflight.remedy import UNPROVED

STRANGER = 64002
RARE = {"trace": 0.02, "calibrate": 0.1, "init": 0.6, "probe": 0.5, "completion": 0.3}
"""Command -> its share of the others': what runs PyTorch or asks a machine takes seconds."""
NEVER = {
    "--online": "asks the hub of models",
    "--rehearse": "trains",
    "--gather": "waits for other nodes",
    "--full-depth": "builds whole models",
}
DOORS = ("guard_helper", "step_check")
"""What Slurm starts: no command of the parser, and fuzzed beside them."""
HIDDEN = re.compile(
    r"\b(?:ZeroDivision|Attribute|Index|Recursion|Overflow|Assertion|Memory|UnboundLocal|Name|NotImplemented|Lookup"
    r"|Arithmetic|FloatingPoint|Buffer|Import|ModuleNotFound|System)Error\b[^\n]{0,200}"
)
"""A fault of ours behind a word that a guard says before it lets a job pass."""
OWN_PROGRAMS = ("sinfo", "scontrol", "sbatch", "srun", "salloc", "squeue", "sacct", "nvidia-smi")
GOOD = (0, 1, 2)
STARTER_CODES = (*GOOD, 78, 126, 127)


@dataclass(frozen=True)
class Input:
    """One call: what stands after `preflight`, the variables, and what comes on standard input."""

    command: str
    words: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes | None


@dataclass
class Outcome:
    """How it was answered."""

    code: int | None = None
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    num_bytes: int = 0
    """The most memory beyond what the process had before."""
    wrong: list[str] = field(default_factory=list)


@lru_cache
def parsers() -> dict[tuple[str, ...], Parser]:
    """Return words -> parser, of every command and every word of `slurm`."""
    found: dict[tuple[str, ...], Parser] = {(name,): parser_of(name) for name in COMMANDS}
    for word, (module, _) in SLURM_WORDS.items():
        parser: Any = importlib.import_module(f"preflight.commands.{module}").parser
        found["slurm", word] = parser(word)
    return found


# What is drawn


def drawn(rng: random.Random) -> Input:
    """Draw one call."""
    kinds = [*parsers(), *((door,) for door in DOORS)]
    shares = [RARE.get(kind[0], 1.0) for kind in kinds]
    kind = rng.choices(kinds, shares)[0]
    env = _environment(rng)
    if kind == ("guard_helper",):
        return Input("guard_helper", ("request.json",), env, None)
    if kind == ("step_check",):
        env |= {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
        return Input("step_check", (".", *texts.launch(rng)), env, None)
    words = list(kind) + _arguments(rng, parsers()[kind])
    if kind[0] in ("check", "run", "fix", "trace"):
        words += ["--", *texts.launch(rng)] if not is_odd(rng, 0.1) else texts.launch(rng)
    elif kind[0] in STARTERS:
        words += _slurm_words(rng, kind[0])
    if is_odd(rng, 0.08):
        words.insert(rng.randrange(len(words) + 1), texts.word(rng))
    stdin = rng.choice((None, b"", damaged(rng, texts.job_script(rng))))
    return Input(" ".join(kind), tuple(words), env, stdin)


def _arguments(rng: random.Random, parser: Parser) -> list[str]:
    options, places = [], []
    share = rng.choice((0.0, 0.05, 0.2, 0.6))
    for action in parser._actions:
        if not action.option_strings:
            if action.nargs is None or rng.random() < 0.7:
                places += [_argument(rng, action) for _ in range(rng.choice((1, 1, 1, 2)) if action.nargs == "*" else 1)]  # fmt: skip
        elif rng.random() < share * (0.05 if isinstance(action, argparse._HelpAction) else 1):
            spelling = rng.choice(action.option_strings)
            if spelling in NEVER:
                continue
            if action.nargs == 0 or (action.nargs == "?" and rng.random() < 0.3):
                options.append([spelling])
            elif rng.random() < 0.3 and spelling.startswith("--"):
                options.append([f"{spelling}={_argument(rng, action)}"])
            else:
                options.append([spelling, _argument(rng, action)])
    spelled = {option[0].partition("=")[0] for option in options}
    if {"--tokenizer", "--column"} & spelled:
        options.append(["--dataset", "rows.jsonl"])  # of which those two say how it is read
    rng.shuffle(options)
    return [*(word for option in options for word in option), *places]


def _argument(rng: random.Random, action: argparse.Action) -> str:
    if action.choices and not is_odd(rng, 0.1):
        return str(rng.choice(list(action.choices)))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    spelling = action.option_strings[-1] if action.option_strings else ""
    make = OF_OPTION.get(spelling) or VALUES.get(metavar, texts.word)
    made = texts.word(rng) if is_odd(rng, 0.1) else make(rng)
    return made if isinstance(made, str) else _plain(made)


def _plain(whole: Any) -> str:
    text = whole if isinstance(whole, str) else json.dumps(whole)
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _setting(rng: random.Random) -> str:
    name = rng.choice((*PLAN_FIELDS, "adapter.rank", "deepspeed.x", "model_config"))
    make = world.PLAN.get(name, odd)
    held = rng.choice(texts.FILES) if name == "model_config" else make(rng)
    return f"{name}={_plain(held)}"


def _file(name: str) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(texts.FILES) if is_odd(rng, 0.3) else name


OF_OPTION = {
    "--policy": _file("policy.yaml"), "--prices": _file("prices.yaml"), "--dataset": _file("rows.jsonl"), "--tokenizer": _file("model"), "--checkpoints": _file("."),
    "--template": lambda rng: one_of(rng, ("plugins/check.py", "slurm/one-node.sbatch", "deepspeed/zero3.json")),
}  # fmt: skip
VALUES: dict[str, Callable[[random.Random], Any]] = {
    "DEVICE": lambda rng: rng.choice(world.DEVICES),
    "MODEL": lambda rng: rng.choice(world.MODELS),
    "FIELD=VALUE": _setting,
    "ID": lambda rng: rng.choice(("PF101", "PF206", "PF313", "PF445", "PF9", *UNPROVED, "qlora", "offload_optimizer", "fits", "tight", "reserved")),
    "N": lambda rng: one_of(rng, ("0", "1", "2", "64", "512")),
    "SECONDS": lambda rng: one_of(rng, ("1", "2")),
    "USD": lambda rng: one_of(rng, ("1", "2.5")),
    "FILE": lambda rng: rng.choice(texts.FILES),
    "FILES": _file("run.sh"),
    "PLAN.yaml": _file("plan.yaml"),
    "RUNS.yaml": _file("runs.yaml"),
    "FOLDER": lambda rng: rng.choice(("records", "records", ".", "model", "jobs", "pipe", "missing")),
    "DIR": lambda rng: rng.choice(("slurm", "slurm", "made", ".", "pipe", "missing/deep")),
    "PATH": lambda rng: rng.choice(("./missing", "train.py", "/nonexistent", "model", "")),
    "NAME": lambda rng: rng.choice(("text", "input_ids", "messages", "length", "plugins/check.py", "slurm/one-node.sbatch", "../x")),
    "FILE.html": lambda rng: rng.choice(("made.html", "missing/x.html", "made.txt", "records")),
    "FILE.svg": lambda rng: rng.choice(("made.svg", "missing/x.svg", "made.png")),
}  # fmt: skip


def _slurm_words(rng: random.Random, program: str) -> list[str]:
    pool = ("-p", "h100", "--gres=gpu:8", "-N2", "--gpus-per-node", "h100:8", "--exclusive", "--parsable", "--array=1-3", "-C", "a&b", ":", "--wrap", "torchrun train.py", "--chdir=model", "--mem=0", "-H", "--", "--export=A=1,B")  # fmt: skip
    words = rng.sample(pool, rng.randrange(6))
    if program == "sbatch":
        return [*words, *((rng.choice(texts.FILES), texts.word(rng)) if rng.random() < 0.8 else ())]
    return [*words, *texts.launch(rng)]


def _environment(rng: random.Random) -> dict[str, str]:
    pool: dict[str, Any] = {
        "PREFLIGHT": ("off", "warn", "enforce", " OFF"), "PREFLIGHT_RECORDS": ("records", "missing"), "PREFLIGHT_TRUST": ("/", ":", "."),
        "PREFLIGHT_SITE": ("site.yaml", "pipe"), "SLURM_CONF": ("slurm/slurm.conf", "missing"), "SLURM_JOB_ID": ("7", "x"), "SLURM_JOB_NODELIST": ("n[1-4]", "n[", "n[1-99999999]"),
        "SLURM_NNODES": ("2", "x"), "SLURM_GPUS_ON_NODE": ("8", "x"), "ACCELERATE_USE_FSDP": ("true", "1"), "FSDP_VERSION": ("2", "x"), "ACCELERATE_CONFIG_FILE": ("a.yaml", "pipe"),
        "NO_COLOR": ("1",), "FORCE_COLOR": ("1",), "COLUMNS": ("0", "-5", "x", "1", "100000"), "TERM": ("dumb", ""), "HF_HOME": ("hub", "pipe"), "HF_HUB_CACHE": ("hub/hub",),
        "CUDA_VISIBLE_DEVICES": ("", "0,1", "x", "-1"), "WORLD_SIZE": ("8", "x"), "LOCAL_RANK": ("0",), "MASTER_ADDR": ("n0",), "XDG_CONFIG_HOME": ("config",), "XDG_DATA_HOME": ("pipe",),
        "PREFLIGHT_CHECKED": ("1",), "TMPDIR": ("missing",), "USER": ("",), "FORCE_TORCHRUN": ("1",), "NNODES": ("2", "x"), "OMP_NUM_THREADS": ("8", "x"),
    }  # fmt: skip
    names = rng.sample(list(pool), rng.randrange(5))
    return {name: _plain(one_of(rng, pool[name], 0.15)) for name in names}


def make_world(rng: random.Random, place: Path, given: Input) -> Path:
    """Write what a command may find; return its folder."""
    folder = place / "work"
    for name in ("model", "records", "jobs", "slurm", "hub", "config/preflight", ".git"):
        (folder / name).mkdir(parents=True)
    (folder / "bin").mkdir()
    named = " ".join(given.words)
    for name, make in FILES.items():
        # What a call names is there as a rule, and of the others some.
        if rng.random() > SELDOM.get(name, 0.95 if name in named else 0.7):
            continue
        made = make(rng)
        data = made if isinstance(made, bytes) else damaged(rng, made)
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    for name in ("sinfo", "scontrol"):
        _program(folder / "bin" / name, "case \"$*\" in *job*) exec /bin/cat jobs.txt;; *partition*|*config*|*node*) exec /bin/cat scontrol.txt;; *) exec /bin/cat sinfo.txt;; esac")  # fmt: skip
    for name in ("sbatch", "srun", "salloc"):
        _program(folder / "bin" / name, "exit 9")
    trusts = {"PREFLIGHT_TRUST", "XDG_CONFIG_HOME"} & set(given.env)
    if os.geteuid() == 0 and not trusts and rng.random() < 0.3:
        hook = folder / "preflight_hooks.py"
        hook.write_text("raise SystemExit('a stranger ran')\n")
        os.chown(hook, STRANGER, STRANGER)
    return folder


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\ncd {path.parent}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _document(make: world.Make, kind: str) -> Callable[[random.Random], bytes]:
    return lambda rng: text_of(rng, make(rng), kind)


def _config_file(kind: str) -> Callable[[random.Random], bytes]:
    makes = (
        world.accelerate,
        world.framework,
        world.deepspeed,
        world.plan,
        world.policy,
        world.value,
    )
    return lambda rng: text_of(rng, rng.choice(makes)(rng), kind)


SELDOM = {"preflight.toml": 0.3, "pyproject.toml": 0.1, "slurm/preflight-site.yaml": 0.3}
"""Files that speak to every command: wrong ones would hide all others."""
FILES: dict[str, Callable[[random.Random], str | bytes]] = {
    "train.py": texts.python, "sft.py": texts.python, "a.yaml": _config_file("yaml"), "b.json": _config_file("json"), "c.toml": _document(world.framework, "toml"),
    "ds.json": _document(world.deepspeed, "json"), "plan.yaml": _document(world.plan, "yaml"), "runs.yaml": _document(world.measured, "yaml"), "policy.yaml": _document(world.policy, "yaml"),
    "preflight.toml": _document(world.settings, "toml"), "pyproject.toml": lambda rng: b"[tool.preflight]\n" + text_of(rng, world.settings(rng), "toml"),
    "model/config.json": _document(world.config, "json"), "model/model.safetensors": world.safetensors, "model/model.safetensors.index.json": _document(world.value, "json"),
    "model/adapter_config.json": _document(world.value, "json"), "model/tokenizer.json": _document(world.value, "json"), "hostfile": lambda rng: f"{texts.word(rng)} slots={odd(rng)!r}\nn1 slots=8\n",
    "records/runs-a.jsonl": world.records, "records/runs-b.jsonl": world.records, "records/correction.json": _document(world.correction, "json"), "records/runs-x.sqlite": lambda rng: rng.randbytes(200),
    "run.sh": texts.job_script, "job.sh": texts.job_script, "jobs/one.sbatch": texts.job_script, "jobs/two.sh": texts.job_script, "README.md": texts.readme, "Makefile": texts.makefile,
    "rows.jsonl": texts.rows, "slurm/slurm.conf": lambda rng: f"CliFilterPlugins={texts.word(rng)}\nJobSubmitPlugins=lua\n", "slurm/cli_filter.lua": lambda rng: rng.choice(("-- preflight: x", "x = 1", "((")),
    "slurm/job_submit.lua": lambda rng: rng.choice(("-- preflight: x\n", "return 1")), "slurm/preflight.policy": lambda rng: rng.choice(("require", "x", "")), "slurm/preflight-site.yaml": _document(world.site_map, "yaml"),
    "site.yaml": _document(world.site_map, "yaml"), "prices.yaml": _document(world.prices, "yaml"), "config/preflight/trust": lambda rng: f"{texts.word(rng)}\n/\n",
    "bin/sinfo.txt": lambda rng: texts.slurm_answer(rng, "sinfo"), "bin/scontrol.txt": lambda rng: texts.slurm_answer(rng, "scontrol"), "bin/jobs.txt": lambda rng: texts.slurm_answer(rng, "jobs"),
    "request.json": texts.guard_request,
}  # fmt: skip


# What is watched


class Audit:
    """What Python's own audit events tell of a call: writes, starts, connections, and code of others."""

    def __init__(self) -> None:
        self.folder = ""
        self.named: set[str] = set()
        self.wrong: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hear)

    def watch(self, folder: Path, named: tuple[str, ...]) -> None:
        self.named = {part for word in named for part in (word, word.partition("=")[2])}
        self.folder, self.wrong, self.is_on = os.path.realpath(folder), [], True

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "os.exec":
            raise FileNotFoundError(2, "nothing is started here", str(args[0]))
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            has_no_name = isinstance(flags, int) and flags & os.O_TMPFILE == os.O_TMPFILE
            if writes and not isinstance(path, int) and not has_no_name:
                self._place("wrote", path)
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.symlink", "os.link", "shutil.rmtree"):  # fmt: skip
            self._place(event, args[0])
        elif event in ("subprocess.Popen", "os.posix_spawn", "os.system", "os.spawn"):
            name = os.path.basename(os.fsdecode(args[0]))
            is_named = os.fsdecode(args[0]) in self.named  # by --python
            if name not in OWN_PROGRAMS and not is_named and not self._is_own_start(args):
                self.wrong.append(f"started {args[0]!r}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            self.wrong.append(f"{event} {args[-1]!r}")
        elif event == "exec":
            name = getattr(args[0], "co_filename", "")
            if name.startswith(self.folder):
                self.wrong.append(f"ran {name}")

    def _is_own_start(self, args: tuple[Any, ...]) -> bool:
        words = [os.fsdecode(word) for word in args[1]] if len(args) > 1 else []
        return os.fsdecode(args[0]) == sys.executable and any("preflight" in w for w in words)

    def _place(self, what: str, path: Any) -> None:
        if isinstance(path, int) or os.fsdecode(path) in self.named:
            return  # a descriptor that was told of, or a place that the call asks for
        whole = os.path.realpath(os.fsdecode(path))
        own = os.path.join(os.path.realpath(tempfile.gettempdir()), "preflight-code-")
        if whole.startswith(own) or whole == os.path.dirname(own):
            return  # where a trace copies a folder's code to, and takes it away again
        if any(os.path.dirname(whole) == os.path.realpath(word) for word in self.named if word):
            return  # a file of a folder that the call names: `--client ..`
        if not whole.startswith((self.folder, "/dev/null", "/proc/self/")):
            self.wrong.append(f"{what} {whole}")


def called(given: Input, folder: Path, audit: Audit) -> Outcome:
    """Make one call in a folder and say what is wrong with how it was answered."""
    outcome = Outcome()
    before, kept = _memory_before(), _contents(folder)
    started = time.process_time()
    out, err = io.StringIO(), io.StringIO()
    with _inside(given, folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        audit.watch(folder, given.words)
        try:
            with _alarm():
                outcome.code = _door(given)
        except Hangs:
            outcome.wrong.append("hang")
        except BaseException as error:
            outcome.wrong.append(f"raised {type(error).__name__}: {error}")
        finally:
            audit.is_on = False
    outcome.seconds = time.process_time() - started
    outcome.num_bytes = _peak_bytes() - before
    outcome.out, outcome.err = out.getvalue(), err.getvalue()
    outcome.wrong += dict.fromkeys(audit.wrong)
    outcome.wrong += _code_problems(given, outcome)
    outcome.wrong += _touched(given, kept, _contents(folder))
    return outcome


def _door(given: Input) -> int | None:
    if given.command in DOORS:
        module = {"guard_helper": "preflight.commands.guard_helper", "step_check": "preflight.slurm.step_check"}  # fmt: skip
        door: Callable[[list[str]], int] = importlib.import_module(module[given.command]).main
        return door(list(given.words))
    return main(list(given.words))


def _code_problems(given: Input, outcome: Outcome) -> list[str]:
    code, text = outcome.code, outcome.out + outcome.err
    if code is None:
        return []
    hidden = HIDDEN.search(text)
    if hidden is not None:
        return [f"hides a fault: {hidden.group(0)}"]
    if given.command == "guard_helper":
        good = code == 0 or (code == 3 and "refuse\n" in outcome.out) or (code == 70 and "preflight: " in text)  # fmt: skip
        return [] if good else [f"exit code {code}"]
    allowed = STARTER_CODES if given.command in STARTERS else GOOD
    if code not in allowed:
        return [f"exit code {code}: {outcome.err[-300:]}"]
    if "Traceback (most recent call last)" in text:
        return ["a traceback"]
    said = ("preflight: ", '"problems"')
    if code == 2 and not any(each in text for each in said):
        return [f"no message: {text[-200:]}"]
    words = given.words
    asks = any(pair == ("--format", "json") for pair in itertools.pairwise(words))
    if (
        asks
        and code in (0, 1)
        and given.command not in STARTERS
        and not {"-h", "--help"} & set(words)
    ):
        try:
            json.loads(outcome.out)
        except ValueError as error:
            return [f"no JSON: {error}: {outcome.out[:100]!r}"]
    return []


MAY_CHANGE = {
    "history": ("records/",), "slurm install": ("slurm/",), "slurm uninstall": ("slurm/",),
}  # fmt: skip


def _touched(given: Input, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the files that were there and are no longer as they were, but for those that the command is for."""
    named = {part for word in given.words for part in (word, word.partition("=")[2])}
    return [
        f"touched {name}"
        for name, was in before.items()
        if after.get(name) != was
        and name not in named
        and not name.startswith(MAY_CHANGE.get(given.command, "\0"))
    ]


def _contents(folder: Path) -> dict[str, Any]:
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = (
                status.st_size,
                status.st_mtime_ns,
                status.st_ino,
            )
    return found


@contextlib.contextmanager
def _inside(given: Input, folder: Path) -> Iterator[None]:
    was, env, stdin, site = os.getcwd(), dict(os.environ), sys.stdin, sysconfig.get_path
    os.chdir(folder)
    os.environ.clear()
    home = {"PATH": str(folder / "bin"), "HOME": str(folder / "home")}
    os.environ.update({**home, "SLURM_CONF": "slurm/slurm.conf", **given.env})
    sys.stdin = None if given.stdin is None else io.TextIOWrapper(io.BytesIO(given.stdin))  # type: ignore[assignment]
    # Where `guard --install` writes: not into the environment of the tests.
    sysconfig.get_path = lambda *_, **__: str(folder / "config")  # type: ignore[assignment]
    descriptors = set(os.listdir("/proc/self/fd"))
    try:
        yield
    finally:
        for number in set(os.listdir("/proc/self/fd")) - descriptors:
            with contextlib.suppress(OSError):
                os.close(int(number))
        os.chdir(was)
        os.environ.clear()
        os.environ.update(env)
        sys.stdin, sysconfig.get_path = stdin, site


def _memory_before() -> int:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew (proc(5))
    return _status("VmRSS")


def _peak_bytes() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
