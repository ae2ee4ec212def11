"""Builtins that fill variables with what comes in: `read`, `mapfile`, `getopts`."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.shell.grammar.text import EMPTY, Text, array, known, not_known
from preflight.shell.meaning.running import Running, Status
from preflight.shell.meaning.state import BLANKS

_READ_VALUES = "adinNptu"
_MAPFILE_VALUES = "dnOsuCc"


def _options(argv: Sequence[Text], with_value: str) -> tuple[dict[str, str], list[str]]:
    """Return letters with their values, and the names behind them."""
    found: dict[str, str] = {}
    words = [word.known or "" for word in argv[1:]]
    while words and words[0].startswith("-") and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            break
        for place, letter in enumerate(word[1:], 1):
            if letter in with_value:
                rest = word[place + 1 :]
                found[letter] = rest if rest else words.pop(0) if words else ""
                break
            found[letter] = ""
    return found, words


def read(run: Running, argv: list[Text]) -> Status:
    """Read a line into variables, cut at IFS; the last one takes the rest."""
    options, names = _options(argv, _READ_VALUES)
    state = run.state
    if "a" in options:
        names = [options["a"]]
    names = names or ["REPLY"]
    end = "\n" if "d" not in options else options["d"][:1]
    line = run.input.line(end) if run.input is not None else (not_known(f"${names[0]}"), True)
    if line is not None and line[0].known is None:
        for name in names:
            state.set(name, not_known(f"${name}"))
        return None
    text, is_whole = (line[0].known or "", line[1]) if line is not None else ("", False)
    if "r" not in options:
        text = text.replace("\\", "")
    ifs = state.ifs()
    limit = 0 if "a" in options else len(names)
    fields = _cut(text, ifs, limit) if "REPLY" not in names else [text]
    if "a" in options:
        state.values[names[0]] = array([known(field) for field in fields])
    else:
        for index, name in enumerate(names):
            state.set(name, known(fields[index]) if index < len(fields) else EMPTY)
    return is_whole


def _cut(text: str, ifs: str, limit: int) -> list[str]:
    """Return a line's fields as `read` cuts it: at most `limit` of them, where it is not 0."""
    blanks = "".join(character for character in ifs if character in BLANKS)
    text = text.strip(blanks) if blanks else text
    found: list[str] = []
    at = 0
    while at < len(text):
        if limit and len(found) == limit - 1:
            rest = text[at:]
            others = set(ifs) - set(blanks)
            # One separator at the very end belongs to the last field only if there are more of them.
            if rest and rest[-1] in others and not set(rest[:-1]) & set(ifs):
                rest = rest[:-1]
            found.append(rest.rstrip(blanks) if blanks else rest)
            return found
        end = at
        while end < len(text) and text[end] not in ifs:
            end += 1
        found.append(text[at:end])
        has_other = False
        while end < len(text) and text[end] in ifs:
            if text[end] not in blanks:
                if has_other:
                    break
                has_other = True
            end += 1
        at = end
    return found


def mapfile(run: Running, argv: list[Text]) -> Status:
    """Read lines into an array."""
    options, names = _options(argv, _MAPFILE_VALUES)
    name = names[0] if names else "MAPFILE"
    text = run.input.rest() if run.input is not None else not_known(f"${name}")
    value = text.known
    if value is None:
        run.state.values[name] = not_known(f"${{{name}[@]}}")
        return None
    end = options.get("d", "\n")[:1] or "\0"
    lines = value.split(end)
    if lines[-1] == "":
        lines.pop()
    skipped, most = options.get("s", ""), options.get("n", "")
    lines = lines[int(skipped) if skipped.isdecimal() else 0 :]
    lines = lines[: int(most)] if most.isdecimal() and int(most) else lines
    run.state.world.steps.spend(len(lines))
    keeps_end = "" if "t" in options else end
    run.state.values[name] = array([known(line + keeps_end) for line in lines])
    return True


def getopts(run: Running, argv: list[Text]) -> Status:
    """Do one step of `getopts "m:b:" opt`."""
    state = run.state
    if len(argv) < 3 or argv[1].known is None or argv[2].known is None:
        return None
    letters, name = argv[1].known.lstrip(":"), argv[2].known
    words = argv[3:] or state.arguments
    index_text = state.known("OPTIND") or "1"
    if not index_text.isdecimal():
        return None
    index, place = int(index_text), state.option_place
    word = words[index - 1].known if 0 < index <= len(words) else ""
    if word is None:
        return None
    state.set("OPTIND", known(str(index)))
    if len(word) < 2 or word[0] != "-" or word == "--":
        if word == "--":
            state.set("OPTIND", known(str(index + 1)))
        return False
    letter = word[place : place + 1]
    at = letters.find(letter)
    is_known = at >= 0 and letter != ":"
    state.set(name, known(letter if is_known else "?"))
    state.unset("OPTARG")
    is_last = place + 1 >= len(word)
    if is_known and letters[at + 1 : at + 2] == ":":
        if not is_last:
            state.set("OPTARG", known(word[place + 1 :]))
        elif index < len(words):
            state.set("OPTARG", words[index])
            index += 1
        index, place = index + 1, 1
    else:
        index, place = (index + 1, 1) if is_last else (index, place + 1)
    state.set("OPTIND", known(str(index)))
    state.option_place = place
    return True
