"""What README.md and the reference say is what the command line does."""

from __future__ import annotations

import re
from pathlib import Path

from preflight.cli import COMMANDS, EXAMPLES
from preflight.commands.options import add_launch_options, add_output_options
from preflight.commands.parser import Parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference-cli.md").read_text()


def test_every_command_is_in_the_readme_and_the_reference_and_no_other():
    for text in (README, REFERENCE):
        usage = set(re.findall(r"^preflight (\w+) .*  +\w", text, re.M))

        assert usage == set(COMMANDS)


def test_every_option_is_in_the_reference():
    parser = Parser("check", "", "")
    add_launch_options(parser)
    add_output_options(parser)
    options = {o for d in parser.declared for o in d.names if o.startswith("--")}

    assert not [o for o in options - {"--help"} if f"`{o}" not in REFERENCE]


def test_the_exit_codes_of_the_help_are_those_of_the_reference():
    in_help = set(re.findall(r"^  (\d+) ", EXAMPLES, re.M))
    in_reference = set(re.findall(r"^\| (\d+)[ ,|]", REFERENCE, re.M))

    assert in_help <= in_reference
    assert {"0", "1", "2", "3", "78"} <= in_help


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_numbers_of_the_readme_are_those_of_the_measured_runs():
    from preflight.datafile import read_data_file
    from preflight.measured import read_runs

    runs = read_runs(read_data_file(str(ROOT / "tests" / "measured" / "runs-dev.yaml")))

    assert f"estimates {len(runs)} published runs" in README
    assert f"{sum(run.is_scored for run in runs)} count towards the score" in README
