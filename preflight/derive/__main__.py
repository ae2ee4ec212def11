"""`python -m preflight.derive`: make every table and page again, and name the version rules to read again."""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from preflight.derive import expected
from preflight.derive.costs import costs, families, release_costs
from preflight.derive.costs.release_costs import release_here
from preflight.derive.layouts.small_sizes import OLDER_MODELS
from preflight.derive.tables.version_rules import rules_to_read
from preflight.derive.target import ROOT, Chosen, NotMade, Target, read, write
from preflight.derive.targets import GROUPS, TARGETS
from preflight.formulas.adapters.adaptations import ADAPTATIONS, ALL_LINEAR
from preflight.formulas.cost_tables import METHODS
from preflight.versions.installed import installed_versions

EXPECTED = "expected"
USAGE = "python -m preflight.derive [NAME ...] [--check] [--method METHOD] [--python PYTHON] [--list] [--rules]"
ABOUT = """\
Make tables and pages again from the libraries that are installed here, and say what changed.
Without a NAME everything is made; what needs a library that is not installed is skipped.
A NAME is that of a table, a page or a test (see --list), of a family, a model type or a tower
that one of the tables has a file of, of a causal type of transformers that has none yet, or of a group:
"""
EPILOG = """\
Files are written where they lie: read the diff before you commit it.
Of a family that is named, --check says whether what is kept of it is what comes out here.
With --python both are done in another environment, which needs transformers, PEFT and torch:
in an older transformers that preflight/formulas/releases.py names, the tables of that release.
At the end stand the rules about versions that were read in an older release than the one
installed here (preflight/versions): each names the file and line to look at.
docs/upgrading.md says how a new release of a library is taken up with this command.

exit codes:
  0  done; with --check: everything is as it would be made
  1  with --check: something would change
  2  there is no such name
  3  something could not be made: its traceback stands above
"""


def main(args: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return the exit code."""
    tests = expected.updating_tests()
    options = parsed(args)
    alone, unknown = made_alone(options.names, tests)
    if unknown:
        near = difflib.get_close_matches(unknown[0], names_of_everything(tests), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(
            f"{unknown[0]} is neither a table nor a page{hint} --list shows them", file=sys.stderr
        )
        return 2
    if options.list:
        print("\n".join(listed(tests)))
        return 0
    outcomes: list[str] = []
    if not options.rules:
        quiet_libraries()
        chosen = Chosen(tuple(options.method), options.missing, tuple(options.adapters))
        wanted = options.names or [*GROUPS, EXPECTED]
        if options.python:
            return max(elsewhere(python, options) for python in options.python)
        for name, target in alone.items():
            outcomes.append(derive(of_one(target, name, chosen), options.check))
        for target in TARGETS:
            if {target.name, target.group} & {*wanted}:
                outcomes.append(derive(target, options.check))
        for name, path in tests.items():
            if {name, EXPECTED} & {*wanted}:
                outcomes.append(run_test(name, path, options.check))
    print("\n".join(rules_to_read(installed_versions())))
    if FAILED in outcomes:
        return 3
    return 1 if options.check and CHANGED in outcomes else 0


AS_IT_WAS, CHANGED, SKIPPED, FAILED = "as it was", "changed", "skipped", "failed"


def made_alone(
    names: Iterable[str], tests: Mapping[str, Path]
) -> tuple[dict[str, Target], list[str]]:
    """Return the names of families, types and towers with the table that has a file of each; then names of nothing."""
    found: dict[str, Target] = {}
    unknown = []
    for name in set(names).difference(GROUPS, [EXPECTED], (t.name for t in TARGETS), tests):
        target = next((target for target in TARGETS if name in target.names()), None)
        if target is None and families.may_have_a_table(name):
            target = next(target for target in TARGETS if target.make is families.files)
        if target is None:
            unknown.append(name)
        else:
            found[name] = target
    return {name: found[name] for name in names if name in found}, unknown


def of_one(target: Target, name: str, chosen: Chosen) -> Target:
    """Return what makes the files of one name of a table: in an older release those of that release alone."""
    make = target.make_one
    assert make is not None
    has_releases = make in (costs.files_of, families.files_of) and name not in OLDER_MODELS
    release = release_here() if has_releases else None
    if release is None:
        return replace(target, name=name, make=lambda say: make(name, chosen, say))
    return replace(
        target, name=name, make=lambda say: release_costs.files_of(name, release, chosen, say)
    )


def elsewhere(python: str, options: argparse.Namespace) -> int:
    """Make or check what is named with the libraries of another environment; print its lines and return its exit code."""
    command = [python, "-m", "preflight.derive", *options.names]
    command += ["--check"] * options.check + ["--missing"] * options.missing
    for flag, values in (("--method", options.method), ("--adapters", options.adapters)):
        command += [word for value in values for word in (flag, value)]
    print(f"{python}:", flush=True)
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    ).returncode


def derive(target: Target, only_checks: bool) -> str:
    """Make one table or page and write what differs; print a line for it and return its outcome."""
    missing = [name for name in target.needs if find_spec(name) is None]
    if missing:
        return said(target.name, SKIPPED, f"needs {' and '.join(missing)}, not installed here")
    if target.folder and target.folder not in os.environ:
        return said(target.name, SKIPPED, f"needs a folder that {target.folder} names")
    began = time.monotonic()
    told: list[str] = []
    try:
        for path, text in target.make(lambda words: say(f"{target.name}: {words}")):
            before = read(path)
            if text != before:
                told.append(f"{path} {difference(before, text)}")
                say(told[-1])
                if not only_checks:
                    write(path, text)
    except NotMade as error:
        return said(target.name, FAILED, str(error))
    except Exception as error:  # a new release breaks what reads it in ways that nobody knows yet
        traceback.print_exc()
        return said(target.name, FAILED, f"{type(error).__name__}: {error}")
    took = f"{time.monotonic() - began:.0f} s"
    return said(target.name, CHANGED if told else AS_IT_WAS, *(told or [took]))


def run_test(name: str, path: Path, only_checks: bool) -> str:
    """Have a test write its pages; print a line for it and return its outcome."""
    say(f"{name}: pytest {path.relative_to(ROOT)}")
    passed, told, output = expected.run_test(path, not only_checks)
    if passed:
        return said(name, CHANGED if told else AS_IT_WAS, *told)
    print(output, file=sys.stderr)
    return said(name, CHANGED if only_checks else FAILED, "its tests fail")


def difference(before: str, after: str) -> str:
    """Return how many lines of a file are new and how many are gone: `+3 -1`."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    changes = [line[0] for line in lines[2:] if not line.startswith("@@")]
    return f"+{changes.count('+')} -{changes.count('-')}"


def said(name: str, outcome: str, *details: str) -> str:
    """Print what became of a table or page; return it."""
    first, *others = details or ("",)
    print(f"{name:18} {outcome:10} {first}".rstrip(), flush=True)
    for detail in others:
        print(f"{'':29} {detail}", flush=True)
    return outcome


def say(words: str) -> None:
    """Tell on stderr what is being worked on."""
    print(f"  {words}", file=sys.stderr, flush=True)


def listed(tests: Mapping[str, Path]) -> Iterator[str]:
    """Yield what can be made, by group."""
    for group, about in GROUPS.items():
        yield f"{group}: {about}"
        for target in TARGETS:
            if target.group == group:
                needs = f", from {', '.join(target.needs)}" if target.needs else ""
                yield f"  {target.name:17} {target.about} ({target.takes}{needs})"
                yield f"  {'':17} {target.files}"
        yield ""
    yield f"{EXPECTED}: what tests hold and write themselves"
    for name, path in tests.items():
        yield f"  {name:17} pytest {path.relative_to(ROOT)} --update-expected"


def names_of_everything(tests: Mapping[str, Path]) -> list[str]:
    """Return the words that a NAME may be."""
    alone = [name for target in TARGETS for name in target.names()]
    return [*GROUPS, EXPECTED, *(target.name for target in TARGETS), *alone, *tests]


def parsed(args: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    groups = [f"  {name:9} {about}\n" for name, about in GROUPS.items()]
    groups.append(f"  {EXPECTED:9} what tests hold and write themselves\n")
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive",
        usage=USAGE,
        description=ABOUT + "".join(groups),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a table, a page, a test or a group"
    )
    parser.add_argument(
        "--method", action="append", default=[], choices=tuple(METHODS), metavar="METHOD",
        help="of families, these alone: full, LoRA, ...",
    )  # fmt: skip
    parser.add_argument(
        "--missing", action="store_true", help="of families, only the methods that their files lack"
    )
    parser.add_argument(
        "--adapters", action="append", default=[],
        choices=tuple(adaptation.folder or ALL_LINEAR for adaptation in ADAPTATIONS),
        help="of families, where adapters are; all that are kept unless given",
    )  # fmt: skip
    parser.add_argument(
        "--python", action="append", default=[], metavar="PYTHON",
        help="do it in this environment, with the libraries there",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="write nothing, and say what would change"
    )
    parser.add_argument("--list", action="store_true", help="show what can be made, and from what")
    parser.add_argument(
        "--rules",
        action="store_true",
        help="make nothing: only name the version rules to read again",
    )
    return parser.parse_args(args)


def quiet_libraries() -> None:
    """Leave warnings of libraries out of the progress, and keep them from the network."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


if __name__ == "__main__":
    raise SystemExit(main())
