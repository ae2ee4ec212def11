"""What a script asks of its libraries that the releases which somebody says do not have."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.command import LaunchCommand
from preflight.errors import Problem
from preflight.libraries.resolve import Libraries
from preflight.libraries.ruled_out import not_taken


def lacking(command: LaunchCommand, libraries: Libraries) -> Iterator[Problem]:
    """Yield the arguments, and the calls and imports of the script, at which every rank would stop."""
    known = {name: libraries.version(name) for name in libraries.known if libraries.is_known(name)}
    script = command.named_script() or ""
    for each in not_taken(command, known):
        release = f"{each.library} {each.version}"
        when = "any more" if each.span.is_over(each.version) else "yet"
        message = f"{each.words}: {release} does not have it {when}, and the script stops there"
        fix = f"{each.library}{each.span}, or what it is called there"
        where = f"{script}:{each.line}" if each.line else each.words
        yield Problem(message, where, fix, "PF151", "warning")
