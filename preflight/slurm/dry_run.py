"""A job script run by bash where nothing it does counts, to see what it would launch.

Programs are recorders, files land in a folder that is read and thrown away, and the sandbox refuses the
rest. Text tools are real, so what a script works out with them is what the job would work out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from preflight.shell.wrapper_options import OPTIONS
from preflight.slurm.redirections import redirected
from preflight.slurm.sandbox import run_confined
from preflight.slurm.sandbox_keeper import LONGEST_S, Confinement
from preflight.slurm.scripted_launch import (
    LAUNCHERS,
    ScriptLaunch,
    ScriptReading,
    is_launch,
    shown_origin,
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TOOLS = _words(
    "awk basename cat column comm cut date diff dirname expr fold gawk grep head jq join ls "
    "mawk nl numfmt od paste readlink realpath rev seq shuf sort stat tac tail tr uname "
    "uniq wc"
)
"""Real programs that only read and print."""
BEHIND = ("env", "mkdir", "sed", "tee", "true", "false")
"""Real programs that only the prelude starts."""
SILENT = _words(
    "module ml pip pip3 apt apt-get git wget curl aws gsutil huggingface-cli hf wandb nvcc "
    "sleep kill ulimit clear tput chmod chown chgrp rm rmdir ln tar unzip gzip scp ssh "
    "squeue sacct scancel sinfo sattach sbcast ray lscpu free df du ps top ibstat ifconfig "
    "ip ping dcgmi rocm-smi disown docker-compose make cmake gcc mail"
)
"""Programs that a dry run need not do; they succeed and say nothing."""
WRAPPERS = _words(
    "mpiexec prun time nice ionice stdbuf setsid timeout numactl taskset nsys ncu xargs "
    "apptainer singularity docker podman podman-hpc shifter enroot charliecloud uv uvx pixi "
    "poetry pdm pipenv hatch rye"
)
"""Programs that start another one; `__pf_unknown` finds it among their words."""
NOT_KNOWN = ("$(python)", "$(python3)")
"""What stands for the output of `python -c ...`, which is not run."""
BASH = "/bin/bash"
MOST_LAUNCHES = 200
MOST_TEXT_BYTES = 1 << 20
"""Of one config that the script writes; a longer file is none."""
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
_DROPPED = (
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "IFS",
    "POSIXLY_CORRECT",
)
_OWN = ("PREFLIGHT_DRY", "PREFLIGHT_SOURCE", "PREFLIGHT_LINE", "PREFLIGHT_VIA", "PREFLIGHT_NODES", "PREFLIGHT_GPUS", "PREFLIGHT_KEEP_GOING")  # fmt: skip
_OF_SHELL = frozenset({"_", "SHLVL", "BASH_ENV", "TMPDIR", "PATH", *_OWN})


def dry_run(
    text: str,
    name: str,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str = ".",
    nodes: Sequence[str] = ("node-1",),
    num_gpus: int = 0,
    longest_s: float = LONGEST_S,
) -> ScriptReading:
    """Return what a script launches when it is run with this environment; raise CannotConfine where it may not run."""
    bash = os.path.realpath(shutil.which("bash", path="/usr/bin:/bin:/usr/local/bin") or BASH)
    own = dict(env or {})
    with tempfile.TemporaryDirectory(prefix="preflight-dry-") as folder:
        scratch = os.path.realpath(folder)
        programs = _lay_out(scratch, text, bash)
        variables = _variables(own, scratch, nodes, num_gpus)
        rules = Confinement(
            scratch,
            tuple(f"{scratch}/{part}" for part in ("files", "rec", "tmp")),
            (*programs, f"{scratch}/bin"),
            longest_s,
        )
        absolute = os.path.abspath(cwd)
        reasons: list[str] = []
        for keep_going in ("", "1"):
            if keep_going:
                variables["PREFLIGHT_KEEP_GOING"] = "1"
            ending = run_confined(
                [bash, "--noprofile", "--norc", f"{scratch}/start", *arguments],
                variables,
                absolute,
                rules,
            )
            records = list(_records(scratch))
            if ending.stopped:
                reasons.append(f"the script was stopped {ending.stopped}")
            launches = _launches(records, scratch, name, own)
            if launches or ending.stopped:
                break
            said = Path(scratch, "stderr").read_text(errors="replace")[-4000:]
            if "syntax error" in said or "unexpected EOF" in said:
                reasons.append(f"bash cannot read the script: {_complaint(said, name)}")
                break
        if not launches and not reasons:
            reasons.append("nothing that the script starts is a launcher that preflight knows")
        return ScriptReading(
            "dry run" if launches else "nothing",
            tuple(launches),
            dict(_written(scratch)),
            tuple(reasons),
        )


def _lay_out(scratch: str, text: str, bash: str) -> list[str]:
    """Make the folder of a dry run; return the programs that may be started in it."""
    for part in ("bin", "real", "files", "rec", "tmp"):
        os.mkdir(f"{scratch}/{part}")
    programs = [bash, *(os.path.realpath(path) for path in _LOADERS if os.path.exists(path))]
    has = []
    for tool in (*TOOLS, *BEHIND):
        path = shutil.which(tool, path="/usr/bin:/bin:/usr/local/bin")
        if path is not None:
            os.symlink(path, f"{scratch}/real/{tool}")
            programs.append(os.path.realpath(path))
            has.append(tool)
    Path(scratch, "prelude").write_text(_prelude([tool for tool in has if tool in TOOLS]))
    Path(scratch, "plain").write_text(text)
    Path(scratch, "slurm_script").write_text(redirected(text))
    # What is called by name alone, by xargs or find or where functions are gone: the same functions.
    stub = f'#!{bash} -p\n. "$PREFLIGHT_DRY"/prelude\n"${{0##*/}}" "$@"\n'
    Path(scratch, "bin", ".stub").write_text(stub)
    os.chmod(f"{scratch}/bin/.stub", 0o755)
    for program in (*LAUNCHERS, "python", "python3", "srun", "mpirun"):
        os.symlink(".stub", f"{scratch}/bin/{program}")
    for shell in ("bash", "sh", "dash"):
        os.symlink(bash, f"{scratch}/bin/{shell}")
    start = (
        f'if {bash} -n "$PREFLIGHT_DRY"/slurm_script 2>/dev/null; then f=slurm_script; else f=plain; fi\n'
        f'BASH_ENV=$PREFLIGHT_DRY/prelude exec {bash} "$PREFLIGHT_DRY/$f" "$@"\n'
    )
    Path(scratch, "start").write_text(start)
    return programs


def _prelude(tools: Sequence[str]) -> str:
    lists = {
        "launchers": LAUNCHERS,
        "srun_values": sorted(OPTIONS["srun"].values),
        "silent": SILENT,
        "tools": tools,
    }
    head = [f"__pf_{name}={_quoted(' ' + ' '.join(words) + ' ')}" for name, words in lists.items()]
    head += [f'{name}() {{ __pf_unknown {name} "$@"; }}' for name in WRAPPERS if name != "time"]
    # sh would not read BASH_ENV.
    head += [f'{name}() {{ bash "$@"; }}' for name in ("sh", "dash")]
    body = Path(__file__).with_name("dry_prelude.bash").read_text()
    return "\n".join(head) + "\n" + body


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _variables(
    env: Mapping[str, str], scratch: str, nodes: Sequence[str], num_gpus: int
) -> dict[str, str]:
    kept = {
        name: value
        for name, value in env.items()
        if name not in _DROPPED
        and not name.startswith(("LD_", "BASH_FUNC_", "GLIBC_", "PREFLIGHT"))
        and "\0" not in name + value
    }
    return {
        "HOME": "/",
        "USER": "user",
        **kept,
        "TMPDIR": f"{scratch}/tmp",
        "PATH": f"{scratch}/bin:{scratch}/real",
        "PREFLIGHT_DRY": scratch,
        "PREFLIGHT_NODES": " ".join(nodes),
        "PREFLIGHT_GPUS": str(num_gpus),
        "PREFLIGHT_SOURCE": "",
        "PREFLIGHT_LINE": "0",
    }


Record = tuple[str, int, str, tuple[str, ...], tuple[str, ...], dict[str, str]]
"""Source, line, folder, words of wrappers, argv, environment."""


def _records(scratch: str) -> Iterator[Record]:
    """Yield what the recorders wrote down, in order; what a script forged or broke is left out."""
    folder = Path(scratch, "rec")
    files = [path for path in folder.iterdir() if not path.name.startswith("via.")]
    files = [path for path in files if path.is_file() and not path.is_symlink()]
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)[:MOST_LAUNCHES]:
        if path.stat().st_size > MOST_TEXT_BYTES:
            continue
        words = path.read_bytes().decode(errors="replace").split("\0")
        try:
            source, line, cwd, via, number = words[:5]
            count = int(number)
            argv, rest = tuple(words[5 : 5 + count]), words[5 + count :]
            yield (source, int(line), cwd, _words_of(via, scratch), argv, _environment(rest))
        except ValueError:
            continue


def _words_of(via: str, scratch: str) -> tuple[str, ...]:
    path = Path(via)
    if not via or path.parent != Path(scratch, "rec") or path.is_symlink() or not path.is_file():
        return ()
    return tuple(path.read_bytes()[:MOST_TEXT_BYTES].decode(errors="replace").split("\0")[:-1])


def _environment(words: Sequence[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: value for name, _, value in pairs if name not in _OF_SHELL}


def _launches(
    records: Sequence[Record], scratch: str, name: str, env: Mapping[str, str]
) -> list[ScriptLaunch]:
    found = []
    for source, line, cwd, through, argv, own in records:
        if not is_launch(argv):
            continue
        is_of_script = source in (f"{scratch}/slurm_script", f"{scratch}/plain", "")
        for variable in ("PATH", "TMPDIR"):  # the script's own would only find recorders
            if variable in env:
                own[variable] = env[variable]
        found.append(
            ScriptLaunch(
                tuple(_without(scratch, word) for word in argv),
                {key: _without(scratch, value) for key, value in own.items()},
                _without(scratch, cwd) or "/",
                tuple(_without(scratch, word) for word in through if word != "preflight"),
                shown_origin(name if is_of_script else _without(scratch, source), line),
                tuple(mark for mark in NOT_KNOWN if any(mark in word for word in argv)),
            )
        )
    return found


def _without(scratch: str, text: str) -> str:
    return text.replace(f"{scratch}/files", "")


def _written(scratch: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of the files that the script wrote, as it names them."""
    root = f"{scratch}/files"
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            if os.path.getsize(path) <= MOST_TEXT_BYTES:
                try:
                    text = Path(path).read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue
                yield path.removeprefix(root), text.replace(root, "")


def _complaint(said: str, name: str) -> str:
    """Return bash's first complaint about the text, with the script's name for it."""
    line = next(line for line in said.split("\n") if "syntax error" in line or "EOF" in line)
    place, _, rest = line.partition(": ")
    return f"{name}: {rest}" if place.endswith(("slurm_script", "plain")) else line
