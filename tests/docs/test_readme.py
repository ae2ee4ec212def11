"""What README.md and the reference say is what the command line does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from preflight.cli import COMMANDS, EXAMPLES
from preflight.commands.parser import parser_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference-cli.md").read_text()


def test_every_command_is_in_the_readme_and_the_reference_and_no_other():
    for text in (README, REFERENCE):
        usage = set(re.findall(r"^preflight (\w+) .*  +\w", text, re.M))

        assert usage == set(COMMANDS)


def test_every_option_is_in_the_reference():
    options = {option for option, _ in parser_of("check").actions() if option.startswith("--")}

    assert not [o for o in options - {"--help"} if f"`{o}" not in REFERENCE]


def test_the_exit_codes_of_the_help_are_those_of_the_reference():
    in_help = set(re.findall(r"^  (\d+) ", EXAMPLES, re.M))
    in_reference = set(re.findall(r"^\| (\d+)[ ,|]", REFERENCE, re.M))

    assert in_help <= in_reference
    assert {"0", "1", "2", "3", "78"} <= in_help


def shown_blocks() -> list[tuple[str, list[str]]]:
    """The commands that the README shows with their output, each as (command, lines)."""
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)```", README, re.M | re.S)
    return [(command, output.splitlines()) for command, output in blocks]


def runs_of_lines(lines: list[str]) -> list[list[str]]:
    """Return what stands between lines of three dots."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line == "...":
            found.append([])
        else:
            found[-1].append(line)
    return [run for run in found if run]


@pytest.mark.parametrize(
    ("index", "example"), list(enumerate(("1-fits", "2-rewritten", "3-refused"))), ids=str
)
def test_the_first_screen_shows_the_three_outcomes_as_the_examples_print_them(index, example):
    command, lines = shown_blocks()[index]
    typed = (ROOT / "examples" / example / "command.sh").read_text().partition("preflight")[2]
    typed = " ".join(("preflight" + typed.replace("\\\n", " ")).split())
    expected = (ROOT / "examples" / example / "expected.txt").read_text().splitlines()

    assert re.fullmatch(".*".join(map(re.escape, command.split("..."))), typed), typed
    at = 0
    for run in runs_of_lines(lines):
        starts = [i for i in range(at, len(expected)) if expected[i : i + len(run)] == run]
        assert starts, f"not in expected.txt, or not in this order: {run}"
        at = starts[0] + len(run)
    assert lines[0] == expected[0]
    assert README.index(lines[0]) < README.index("## Set up")


def published_pages() -> list[Path]:
    """Every Markdown file that people read; not those that tests feed to a reader."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "hooks").glob("*.md")]
    pages += [*(ROOT / "examples").rglob("*.md"), *(ROOT / "templates").rglob("*.md")]
    return sorted(page for page in pages if ".preflight" not in page.parts)


def prose_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?)\s*$", prose_of(page), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        numbered = (f"{anchor}-{n}" for n in range(1, len(found) + 2))
        found.add(anchor if anchor not in found else next(n for n in numbered if n not in found))
    return found


@pytest.mark.parametrize("page", published_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)

    assert broken == []


def test_the_index_sorts_every_page_into_one_of_the_four_kinds():
    """A new page of docs/ needs a line in docs/README.md."""
    index = (ROOT / "docs" / "README.md").read_text()
    kinds = re.findall(r"^## (.*)$", index, re.M)
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\): \w", index, re.M)
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert kinds == ["Tutorials", "How-to guides", "Reference", "Explanation"]
    assert len(listed) == len(set(listed))
    assert {link for link in listed if not link.startswith("..")} == pages


def test_numbers_of_the_readme_are_those_of_the_measured_runs():
    from preflight.formats.load import read_data_file
    from preflight.studies.measured import read_runs

    runs = read_runs(read_data_file(str(ROOT / "tests" / "measured" / "runs-dev.yaml")))

    assert f"estimates {len(runs)} published runs" in README
    assert f"{sum(run.is_scored for run in runs)} count towards the score" in README
