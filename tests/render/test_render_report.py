"""The report as a stranger reads it: verdict first, what happens next last, nothing hidden between."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.device import DeviceSpec
from preflight.errors import Problem
from preflight.finding import Finding
from preflight.launch import LaunchPlan, Origin
from preflight.memory import ALWAYS, PHASE_MOMENTS, Level, MemoryTerm, Moment
from preflight.memory import Phase as P
from preflight.model import ModelSpec
from preflight.peaks import estimate_peaks
from preflight.printable import printable
from preflight.remedy import Remedy
from preflight.render.page import Page, bar, page_for
from preflight.render.report import MOST_OF_A_KIND, report_lines
from preflight.report import Report, TriedRemedy
from preflight.rewrite import Rewrite, RewrittenFile
from preflight.units import GIB
from preflight.verdict import Answer, judge, with_unpriced

H100 = DeviceSpec("H100 80GB", int(79.1 * GIB), key="h100-sxm-80", source="the GPU table")
PLAN = LaunchPlan(
    model="an/8b",
    world_size=8,
    seq_len=1024,
    micro_batch_size=4,
    engine="fsdp2",
    origins={
        "seq_len": Origin("default of trl 1.16.0", assumed=True),
        "micro_batch_size": Origin("train.sh:7"),
    },
)
MODEL = ModelSpec("an/8b", {}, "llama", 8, 16, 0, units=(), num_params_override=8_030_261_248)


def estimate(activation_gib: float, unknown: tuple[str, ...] = ()):
    """Parameters always, activations in a step, optimizer states from the first step on."""
    step = frozenset(m for phase in (P.FORWARD, P.LOSS, P.BACKWARD) for m in PHASE_MOMENTS[phase])
    return estimate_peaks(
        [
            MemoryTerm("parameters, sharded", 4 * GIB, ALWAYS, "8,030,261,248 / 8 * 4", "a.py:1"),
            MemoryTerm("activations", int(activation_gib * GIB), step, "tokens * bytes", "b.py:2"),
            MemoryTerm(
                "optimizer states",
                8 * GIB,
                ALWAYS | {Moment.OPTIMIZER_STEP},
                "2 * 4 GiB",
                from_second_step=True,
            ),
            MemoryTerm("CUDA context", GIB // 2, ALWAYS, level=Level.DEVICE),
            MemoryTerm("pinned buffers", 12 * GIB, ALWAYS, level=Level.HOST),
        ],
        unknown,
    )


def report(activation_gib: float = 11.9, **changes) -> Report:
    priced = estimate(activation_gib, changes.pop("unknown", ()))
    verdict = judge(priced, H100)
    values = {
        "plan": PLAN,
        "verdict": verdict,
        "model": MODEL,
        "device": H100,
        "estimate": priced,
        "num_trainable_params": MODEL.num_params,
        "may_launch": verdict.answer is not Answer.DOES_NOT_FIT,
    }
    return Report(**{**values, **changes})


def tried(remedy: Remedy, activation_gib: float) -> TriedRemedy:
    priced = estimate(activation_gib)
    return TriedRemedy(remedy, PLAN, priced, judge(priced, H100), remedy.step_time_factor)


CHECKPOINTING = Remedy(
    "activation_checkpointing",
    "turn activation checkpointing on",
    {"activation_checkpointing": "full"},
    "equivalent",
    1.3,
)
QLORA = Remedy(
    "qlora",
    "train a LoRA adapter on an nf4 base",
    {},
    "changes_training",
    1.5,
    notes=("learning rates of 1e-4 to 2e-4 are usual",),
    how="--use_peft --load_in_4bit",
)


def rewritten() -> Report:
    yaml = RewrittenFile(
        "fsdp.yaml", "/job/.preflight/fsdp.yaml", "a: 1\nb: no\n", "a: 1\nb: yes\n"
    )
    rewrite = Rewrite(
        (
            "accelerate",
            "launch",
            "--config_file",
            ".preflight/fsdp.yaml",
            "train.py",
            "--note",
            "a b",
        ),
        (yaml,),
        {"PYTORCH_ALLOC_CONF": "expandable_segments:True"},
        (("--per_device_train_batch_size 4", "--per_device_train_batch_size 2"),),
    )
    return report(90, applied=(tried(CHECKPOINTING, 9),), rewrite=rewrite, may_launch=True)


def text(of: Report, door: str = "check", width: int = 80, is_verbose: bool = False) -> list[str]:
    return report_lines(of, door, Page(width), is_verbose)


def test_a_launch_that_fits_is_three_lines():
    assert text(report()) == [
        "preflight: fits. Peak 24.4 of 79.1 GiB per rank (8 x H100 80GB)",
        "assumed: defaults of trl 1.16.0: seq_len 1024",
        "next: `preflight run` would start the launch as written",
    ]


def test_a_launch_that_does_not_fit_says_when_it_dies_and_of_what():
    lines = text(report(70))

    assert lines[0] == (
        "preflight: does not fit. Peak 82.5 of 79.1 GiB per rank (8 x H100 80GB),"
        " dies in the second step"
    )
    assert "  phase            tensors    device  capacity 79.1 GiB" in lines
    assert "  second step     82.0 GiB  82.5 GiB  does not fit, the first to fail" in lines
    assert "  forward         74.0 GiB  74.5 GiB" in lines
    assert "  70.0 GiB  activations          tokens * bytes" in lines
    assert "   4.0 GiB  parameters, sharded  8,030,261,248 / 8 * 4" in lines
    assert "host: 12.0 GiB per node in the first forward pass, most of it pinned buffers" in lines
    assert lines[-1] == (
        "next: `preflight run` would start nothing; give it more or larger devices, or a smaller job"
    )


def test_terms_of_the_first_step_leave_out_what_the_first_step_creates():
    """The failing phase is the first backward pass: optimizer states are not there yet."""
    lines = text(report(90))
    terms = lines[lines.index("largest terms in the first forward pass:") + 1 :]

    assert "activations" in terms[0]
    assert not any("optimizer states" in line for line in terms)


def test_a_rewrite_shows_each_change_its_effect_and_the_command_in_one_line():
    lines = text(rewritten(), "run")

    assert lines[0].startswith(
        "preflight: does not fit as written, fits rewritten. Peak 102.5 -> 21.5 of"
    )
    assert "  activation_checkpointing: turn activation checkpointing on" in lines
    assert "    peak 21.5 of 79.1 GiB: fits, step time about x1.30" in lines
    assert lines[lines.index("--- fsdp.yaml") :][:2] == [
        "--- fsdp.yaml",
        "+++ .preflight/fsdp.yaml",
    ]
    assert "-b: no" in lines and "+b: yes" in lines
    assert "- --per_device_train_batch_size 4" in lines
    assert "+ --per_device_train_batch_size 2" in lines
    assert "+ PYTORCH_ALLOC_CONF=expandable_segments:True" in lines
    assert lines[-1] == (
        "next: starts the rewritten launch: PYTORCH_ALLOC_CONF=expandable_segments:True"
        " accelerate launch --config_file .preflight/fsdp.yaml train.py --note 'a b'"
    )


def test_a_suggestion_says_what_it_changes_what_it_measures_and_how():
    lines = text(report(90, suggested=(tried(QLORA, 3),)), "run")

    assert "  qlora: train a LoRA adapter on an nf4 base (changes training)" in lines
    assert "    peak 15.5 of 79.1 GiB: fits, step time about x1.50" in lines
    assert "    add  --use_peft --load_in_4bit" in lines
    assert "    learning rates of 1e-4 to 2e-4 are usual" in lines
    assert lines[-1] == (
        "next: nothing was started; take a suggestion above, or give it more or larger devices"
    )


def test_a_suggestion_that_would_not_help_is_one_line_at_the_end_of_them():
    lines = text(report(90, suggested=(tried(QLORA, 3), tried(CHECKPOINTING, 80))), "run")

    assert "does not fit either: activation_checkpointing (peak 92.5 of 79.1 GiB)" in lines
    assert not any("turn activation checkpointing on" in line for line in lines)


def test_tight_says_that_it_may_die_and_still_starts():
    lines = text(report(65.5), "run")

    assert lines[0].startswith("preflight: tight. Peak 78.0 of 79.1 GiB per rank")
    assert lines[0].endswith("may die of fragmentation in the second step")
    assert lines[-1] == "next: starts the launch as written"


def test_unknown_names_what_to_say_and_gives_a_lower_bound():
    lines = text(report(1, unknown=("seq_len",)))

    assert lines[0].startswith("preflight: unknown: seq_len not known. At least 13.5 of 79.1 GiB")
    assert lines[-1] == (
        "next: `preflight run` would start the launch as written, unchecked;"
        " to know, add --set seq_len=N before the `--`"
    )


def test_without_a_device_there_is_no_capacity_and_no_claim():
    priced = estimate(11.9)
    unknown = report(device=None, verdict=judge(priced, None))

    assert text(unknown)[0] == "preflight: unknown: no device is known. Peak 24.4 GiB per rank"


def test_warnings_are_shown_where_it_fits_and_remarks_only_when_asked():
    findings = (
        Finding("PF101", "ignored-key", "warning", "fsdp_foo is ignored", "a.yaml:3", "remove it"),
        Finding("PF115", "", "info", "the number of processes comes from the machine"),
    )
    quiet, verbose = (
        text(report(findings=findings)),
        text(report(findings=findings), is_verbose=True),
    )

    assert "warning: fsdp_foo is ignored (PF101 ignored-key)" in quiet
    assert "  at   a.yaml:3" in quiet and "  fix  remove it" in quiet
    assert not any("PF115" in line for line in quiet)
    assert any("PF115" in line for line in verbose)


def test_verbose_names_the_source_of_every_term_and_every_plan_value():
    lines = text(report(), width=120, is_verbose=True)
    joined = "\n".join(lines)

    assert "a.py:1" in joined and "b.py:2" in joined
    assert any(line.split() == ["micro_batch_size", "4", "train.sh:7"] for line in lines)
    assert any("default of trl 1.16.0 (assumed)" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("made", [report, lambda: report(70), lambda: report(65.5)])
def test_lines_between_first_and_last_keep_to_the_width_of_the_terminal(width, made):
    lines = text(made(), width=width, is_verbose=True)

    assert max(map(len, lines[1:-1])) <= width
    assert all(line.isascii() for line in lines)


def test_color_repeats_what_words_say_and_nothing_else():
    plain, colored = text(rewritten()), report_lines(rewritten(), "check", Page(80, True))
    colored = [printable(line) for line in colored]
    stripped = list(colored)
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m"):
        stripped = [line.replace(code, "") for line in stripped]

    assert stripped == plain
    assert colored != plain


def test_no_color_and_pipes_have_no_color(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            raise OSError

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    assert page_for(Terminal()).has_color
    assert not page_for(io.StringIO()).has_color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not page_for(Terminal()).has_color
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not page_for(io.StringIO()).has_color
    assert page_for(Terminal(), "always").has_color
    assert page_for(Terminal()).has_bars
    assert not page_for(io.StringIO(), "always").has_bars
    monkeypatch.setenv("TERM", "dumb")
    assert not page_for(Terminal()).has_bars


@pytest.mark.parametrize("name", ["FORCE_COLOR", "CLICOLOR_FORCE"])
@pytest.mark.parametrize(("word", "has_color"), [("1", True), ("3", True), ("0", False)])
def test_color_can_be_forced_into_a_pipe_as_ci_does(monkeypatch, name, word, has_color):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, word)

    assert page_for(io.StringIO()).has_color is has_color
    assert not page_for(io.StringIO(), "never").has_color


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(10, 30))
def test_a_bar_passes_its_mark_where_the_capacity_is_passed(value, capacity, width):
    drawn = bar(value, capacity, max(value, capacity), width)

    assert len(drawn) == width
    assert drawn.count("|") == 1
    assert ("#" in drawn.partition("|")[2]) is (value > capacity)
    assert set(drawn) <= {"#", ".", "|", " "}


def test_bars_stand_on_wide_terminals_and_say_nothing_that_words_do_not():
    launch = report(estimate=estimate(120), verdict=judge(estimate(120), H100))
    wide = report_lines(launch, "check", Page(100, has_bars=True))
    plain = report_lines(launch, "check", Page(100))

    assert any("####" in line for line in wide)
    assert max(map(len, wide[2:])) <= 100
    assert [" ".join(re.sub(r"[#.]*[#.]\|[# ]*", " ", line).split()) for line in wide] == [
        " ".join(line.split()) for line in plain
    ]
    assert not any("#" in line for line in report_lines(launch, "check", Page(80, has_bars=True)))


def test_a_tiny_device_is_written_in_mib():
    tiny = DeviceSpec("tiny", int(0.05 * GIB))
    priced = estimate_peaks([MemoryTerm("x", 10 * 2**20, ALWAYS)], is_cuda=False)
    lines = text(report(device=tiny, estimate=priced, verdict=judge(priced, tiny)))

    assert lines[0] == "preflight: fits. Peak 10.0 of 51.2 MiB per rank (8 x tiny)"


def test_of_a_hundred_warnings_of_a_kind_the_first_are_told_one_by_one():
    """A script that drags a whole library in; a deeper report and JSON name each."""
    names = [f"what Patch{i} makes of the model" for i in range(100)]
    notices = [Problem(f"not {n}", severity="warning", unpriced=n, takes="either") for n in names]
    found = tuple(Finding("PF100", "", "warning", each.message) for each in notices)
    verdict = with_unpriced(judge(estimate(11.9), H100), notices)
    many = report(verdict=verdict, findings=found)
    lines = text(many)

    assert len([line for line in lines if line.startswith("warning: not ")]) == MOST_OF_A_KIND
    assert f"warning: and {100 - MOST_OF_A_KIND} more of these, with -v in full" in lines
    assert lines[-1].endswith("; and 96 more cannot be priced yet")
    assert len([1 for line in text(many, is_verbose=True) if line.startswith("warning: ")]) == 100
    assert len(many.to_dict()["findings"]) == len(many.to_dict()["unpriced"]) == 100
