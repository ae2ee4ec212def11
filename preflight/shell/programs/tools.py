"""Programs that only read and print, by name: what each would print, worked out here instead of by it.

A program that is not among them, an option that is not known, or a file that is not here make the output
not known; that is no error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.patterns import NoPattern
from preflight.shell.grammar.text import EMPTY, Text, Unknown, all_known, joined, known
from preflight.shell.meaning.running import OUTPUT, Running, Status
from preflight.shell.programs.filters import FILTERS
from preflight.shell.programs.probes import PROBES
from preflight.shell.programs.stream_programs import NotKnown

Tool = Callable[[Running, list[Text]], tuple[Text, Status]]
UNKNOWN = Text((OUTPUT,))


def contents(run: Running, paths: Sequence[str]) -> Text:
    """Return the text of files, of standard input where there are none; not known where one is not here."""
    made = EMPTY
    for path in paths or ("-",):
        if path in ("-", "/dev/stdin"):
            text = run.input.rest() if run.input is not None else UNKNOWN
        else:
            absolute = run.state.path(known(path))
            read = None if absolute is None else run.state.world.files.read(absolute)
            text = UNKNOWN if read is None else read
        made = made + text
    run.state.world.steps.spend(len(made.shown) // 64)
    return made


def _filter(name: str) -> Tool:
    """Return a tool that makes text of text."""

    def tool(run: Running, argv: list[Text]) -> tuple[Text, Status]:
        words = all_known(argv[1:])
        if words is None:
            contents(run, ())
            return UNKNOWN, None
        try:
            call = FILTERS[name](words)
            text = contents(run, call.paths).known
            if text is None:
                return UNKNOWN, None
            output, status = call.apply(text, run.state.world.steps)
            return known(output), status
        except (NotKnown, NoPattern, NoNumber, ValueError, IndexError):
            return UNKNOWN, None

    return tool


def _probe(name: str) -> Tool:
    """Return a tool that says something of the job's machine."""

    def tool(run: Running, argv: list[Text]) -> tuple[Text, Status]:
        output = PROBES[name](argv[1:], run.state)
        return (UNKNOWN, None) if output is None else (output, True)

    return tool


def cat(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    paths = all_known(word for word in argv[1:] if not (word.known or "x").startswith("--"))
    if paths is None or any(path.startswith("-") and path != "-" for path in paths):
        return UNKNOWN, None
    text = contents(run, paths)
    return text, None if text.known is None and OUTPUT in text.parts else True


def lines_of(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    """`wc`: lines are counted, too, where nobody knows what is in them."""
    words = all_known(argv[1:])
    if words is None:
        return UNKNOWN, None
    flags = "".join(word[1:] for word in words if word.startswith("-"))
    paths = [word for word in words if not word.startswith("-")]
    text = contents(run, paths)
    value = text.known
    if flags == "l" and all(isinstance(part, str) or part.is_line for part in text.parts):
        number = sum(part.count("\n") for part in text.parts if isinstance(part, str))
    elif value is None or flags not in ("l", "w", "c", "m"):
        return UNKNOWN, None
    elif flags == "w":
        number = len(value.split())
    else:
        number = len(value.encode("utf-8", "surrogateescape")) if flags == "c" else len(value)
    return known(f"{number}{' ' + paths[0] if paths else ''}\n"), True


def some_lines(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    """`head` and `tail`: by lines also where nobody knows what is in them."""
    words = all_known(argv)
    if words is None:
        return UNKNOWN, None
    number, paths, unit = "10", [], "n"
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        if match := re.fullmatch(r"-(?:(n|c)|-lines=?|-bytes=?)?([-+]?\d+)?", word):
            unit = "c" if match[1] == "c" or "bytes" in word else "n"
            number = match[2] or (rest.pop(0) if rest else "")
        elif word in ("-q", "-v", "-z", "-f", "-F"):
            return UNKNOWN, None
        else:
            paths.append(word)
    text = contents(run, paths)
    if not re.fullmatch(r"[-+]?\d{1,9}", number):
        return UNKNOWN, None
    count = abs(int(number))
    is_head = words[0] == "head"
    if is_head:
        place = slice(None, -count or None) if number[0] == "-" else slice(count)
    else:
        place = slice(count - 1, None) if number[0] == "+" else slice(-count, None) if count else slice(0)  # fmt: skip
    value = text.known
    if unit == "c":
        return (UNKNOWN, None) if value is None else (known(value[place]), True)
    if any(isinstance(part, Unknown) and not part.is_line for part in text.parts):
        return UNKNOWN, None
    return joined(_lines(text)[place], ""), True


def _lines(text: Text) -> list[Text]:
    """Return a text's lines with their ends."""
    found, line = [], EMPTY
    for part in text.parts:
        if isinstance(part, Unknown):
            line = line + Text((part,))
            continue
        for piece in part.splitlines(keepends=True):
            line = line + known(piece)
            if piece.endswith("\n"):
                found.append(line)
                line = EMPTY
    return [*found, line] if line != EMPTY else found


def xargs(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    """Start a command with the words that come in; alone, print them on one line."""
    words, replaced, at_once = list(argv[1:]), "", 0
    while words and (value := words[0].known or "").startswith("-"):
        del words[0]
        letter, rest = value[1:2], value[2:]
        if letter in "InPLdsa":
            rest = rest or (words.pop(0).known or "" if words else "")
        if letter == "I":
            replaced, at_once = rest, 1
        elif letter == "n" and rest.isdecimal():
            at_once = int(rest)
    text = contents(run, ()).known
    given = [] if text is None else text.split()
    if replaced and text is not None:
        given = text.splitlines()
    if not words:
        return (UNKNOWN, None) if text is None else (known(" ".join(given) + "\n"), True)
    status: Status = None
    step = at_once or max(1, len(given))
    for start in range(0, max(1, len(given)), step):
        some = given[start : start + step]
        command = words if replaced else [*words, *map(known, some)]
        if replaced and some:
            command = [known(w.known.replace(replaced, some[0])) if w.known else w for w in words]
        with run.subshell():
            status = run.run(command)
    return EMPTY, status


# Programs that write files, which only this reading sees


def tee(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    text = contents(run, ())
    adds = any(word.known in ("-a", "--append") for word in argv)
    for word in argv[1:]:
        if not word.shown.startswith("-") and (path := run.state.path(word)) is not None:
            run.state.world.files.write(path, text, adds)
    return text, True


def mkdir(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    flags = [word.shown for word in argv if word.shown.startswith("-")]
    for word in argv[1:]:
        path = run.state.path(word)
        if path is not None and not word.shown.startswith("-"):
            folders = run.state.world.files.folders
            while path not in folders and path != "/" and "-p" in flags:
                folders.add(path)
                path = os.path.dirname(path)
            folders.add(path)
    return EMPTY, True


def touch(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    files = run.state.world.files
    for word in argv[1:]:
        path = run.state.path(word)
        if path is not None and not word.shown.startswith("-") and not files.exists(path):
            files.write(path, EMPTY, False)
    return EMPTY, True


def copy(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    files = run.state.world.files
    words = [word for word in argv[1:] if not word.shown.startswith("-")]
    paths = [run.state.path(word) for word in words]
    if len(paths) < 2 or paths[-1] is None:
        return EMPTY, True
    target = paths[-1]
    is_folder = files.is_folder(target) or words[-1].shown.endswith("/") or len(paths) > 2
    for path in paths[:-1]:
        text = None if path is None else files.read(path)
        if text is not None and path is not None:
            to = os.path.join(target, os.path.basename(path)) if is_folder else target
            files.write(to, text, False)
    return EMPTY, True


def sed(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    """Change text; with `-i`, the file that the text is in."""
    words = [word.known for word in argv[1:]]
    if not any(word and re.match(r"-[nErsuz]*i|--in-place", word) for word in words):
        return _filter("sed")(run, argv)
    files = run.state.world.files
    kept = [word for word in argv[1:] if not re.match(r"-[nErsuz]*i|--in-place", word.known or "")]
    try:
        plain = all_known(kept)
        call = None if plain is None else FILTERS["sed"](plain)
    except (NotKnown, NoPattern, ValueError, IndexError):
        call = None
    for path in call.paths if call is not None else [word.known or "" for word in kept]:
        absolute = run.state.path(known(path))
        before = None if absolute is None else files.read(absolute)
        if absolute is None or before is None:
            continue
        after = UNKNOWN
        if call is not None and before.known is not None:
            with suppress(NotKnown, NoPattern):
                after = known(call.apply(before.known, run.state.world.steps)[0])
        files.write(absolute, after, False)
    return EMPTY, True


def _silent(run: Running, argv: list[Text]) -> tuple[Text, Status]:
    return EMPTY, True


TOOLS: dict[str | None, Tool] = {
    **{name: _filter(name) for name in FILTERS},
    **{name: _probe(name) for name in PROBES},
    "cat": cat,
    "wc": lines_of,
    "head": some_lines,
    "tail": some_lines,
    "xargs": xargs,
    "tee": tee,
    "mkdir": mkdir,
    "touch": touch,
    "cp": copy,
    "mv": copy,
    "rsync": copy,
    "install": copy,
    "sed": sed,
    **dict.fromkeys(("rm", "rmdir", "ln", "chmod", "chown", "chgrp", "clear", "sync"), _silent),
}
