"""`completion`: what a shell needs to complete preflight's commands, options and their values."""

from __future__ import annotations

import sys
from argparse import Action
from collections.abc import Mapping

from preflight.commands import COMMANDS
from preflight.commands.options import FITS
from preflight.commands.parser import Parser, parser_of
from preflight.streams import say

EPILOG = """\
examples:
  eval "$(preflight completion bash)"       in ~/.bashrc
  eval "$(preflight completion zsh)"        in ~/.zshrc, after compinit
  preflight completion fish > ~/.config/fish/completions/preflight.fish
"""
SHELLS = ("bash", "zsh", "fish")

BASH = r"""
_preflight() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= at words=
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        if [[ ${COMP_WORDS[at]} == -- ]]; then
            # What follows is a launcher's: its own completion, where bash-completion is there.
            if declare -F _command_offset >/dev/null; then
                _command_offset $((at + 1))
            else
                COMPREPLY=($(compgen -f -- "$word"))
            fi
            return
        fi
        [[ -z $command && ${COMP_WORDS[at]} != -* ]] && command=${COMP_WORDS[at]}
    done
    case $before in
@VALUES@
    esac
    if [[ -z $words ]]; then
        case $command in
            "") words="@COMMANDS@ --help --version" ;;
@OPTIONS@
        esac
        if [[ -n $command && $word != -* ]]; then
            words=
            case $command in
@WORDS@
            esac
            COMPREPLY=($(compgen -W "$words" -- "$word"))
            [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$word"))
            return
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _preflight preflight
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Print what a shell needs to complete commands, options, devices, models, remedies and findings.",
        "preflight completion bash|zsh|fish",
        EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the script for one shell."""
    options = parser(name).parse_args(args)
    script = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell]
    say(script(), sys.stdout)
    return FITS


def completed() -> dict[str, dict[str, Action]]:
    """Return the long options of every command."""
    return {
        name: {option: action for option, action in parser_of(name).actions() if option[:2] == "--"}
        for name in COMMANDS
    }


def values() -> Mapping[str, list[str]]:
    """Return the values that options take beside those that argparse knows, by option."""
    from preflight.commands.explain import remedy_pages
    from preflight.devices.gpu_table import gpu_table
    from preflight.models.registry import all_models
    from preflight.studies.template_files import TEMPLATES

    remedies = list(remedy_pages())
    devices = [entry.key for entry in gpu_table()]
    return {
        "--device": [*devices, "auto"],
        "--gpu": devices,
        "--allow": remedies,
        "--forbid": remedies,
        "--template": list(TEMPLATES),
        "--compare": sorted(entry.id for entry in all_models()),
    }


def words_behind() -> Mapping[str, list[str]]:
    """Return what stands behind a command in place of a file, by command."""
    from preflight.commands.explain import all_pages
    from preflight.commands.slurm import WORDS
    from preflight.devices.gpu_table import gpu_table
    from preflight.models.registry import all_models

    models = sorted(entry.id for entry in all_models())
    return {
        "completion": list(SHELLS),
        "explain": list(all_pages()),
        "gpus": [entry.key for entry in gpu_table()],
        "models": models,
        "size": models,
        "slurm": list(WORDS),
        "help": list(COMMANDS),
    }


def bash() -> str:
    """Return a function for bash."""
    known = completed()
    given = [
        f'        {option}) words="{" ".join(words)}" ;;' for option, words in values().items()
    ]
    for option, commands in _with_choices(known).items():
        given += [f"        {option}) case $command in"]
        for choices, names in commands.items():
            given += [f'            {"|".join(names)}) words="{choices}" ;;']
        given += ["            esac ;;"]
    options = [f'            {name}) words="{" ".join(found)}" ;;' for name, found in known.items()]
    behind = [
        f'                {name}) words="{" ".join(them)}" ;;'
        for name, them in words_behind().items()
    ]
    text = BASH.lstrip("\n")
    for mark, lines in (
        ("@VALUES@", "\n".join(given)),
        ("@OPTIONS@", "\n".join(options)),
        ("@COMMANDS@", " ".join((*known, "help"))),
        ("@WORDS@", "\n".join(behind)),
    ):
        text = text.replace(mark, lines)
    return text


def _with_choices(known: Mapping[str, Mapping[str, Action]]) -> dict[str, dict[str, list[str]]]:
    """Return option -> its choices -> the commands that have it with them."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, options in known.items():
        for option, action in options.items():
            if action.choices:
                by_choices = found.setdefault(option, {})
                by_choices.setdefault(" ".join(action.choices), []).append(name)
    return found


def zsh() -> str:
    """Return the same for zsh, which has a reader of bash's completions."""
    return f"autoload -Uz +X bashcompinit && bashcompinit\n{bash()}"


def fish() -> str:
    """Return commands for fish."""
    lines = ["complete -c preflight -f -n __fish_use_subcommand -l version"]
    for name, (_, about) in COMMANDS.items():
        said = about.replace("'", r"\'")
        lines.append(f"complete -c preflight -f -n __fish_use_subcommand -a {name} -d '{said}'")
    for name, them in words_behind().items():
        where = f"complete -c preflight -f -n '__fish_seen_subcommand_from {name}'"
        lines.append(f"{where} -a '{' '.join(them)}'")
    given = values()
    for name, found in completed().items():
        for option, action in found.items():
            words = action.choices or given.get(option, [])
            where = f"complete -c preflight -n '__fish_seen_subcommand_from {name}'"
            takes_value = action.nargs != 0
            more = f" -x -a '{' '.join(words)}'" if words else " -r" if takes_value else ""
            lines.append(f"{where} -l {option.removeprefix('--')}{more}")
    return "\n".join(lines) + "\n"
