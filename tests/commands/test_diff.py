"""`diff` and `preflight.compare`: two launches side by side say what each alone says, and what differs adds up."""

from __future__ import annotations

import json

import pytest
from in_process import preflight as command

import preflight
from preflight.launch import LaunchPlan

PLAN = """\
model: meta-llama/Llama-3.1-8B
engine: fsdp2
world_size: 8
shard_degree: 8
micro_batch_size: 1
seq_len: 4096
mixed_precision: bf16
activation_checkpointing: full
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py --model_name_or_path meta-llama/Llama-3.1-8B --bf16 True --max_length 4096 --per_device_train_batch_size"
SCRIPT = """\
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser
script, training, model = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model.model_name_or_path, training).train()
"""
H100 = ("--device", "h100-sxm-80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diff")
    (folder / "a.yaml").write_text(PLAN)
    (folder / "b.yaml").write_text(
        PLAN.replace("size: 1", "size: 4").replace("checkpointing: full", "checkpointing: none")
    )
    (folder / "train.py").write_text(SCRIPT)
    (folder / "one.sh").write_text(f"{LAUNCH} 1\n")
    (folder / "two.sh").write_text(f"{LAUNCH} 1\n{LAUNCH} 2\n")
    return folder


def compared(folder, *words: str) -> dict:
    return json.loads(command(folder, "diff", *H100, "--format", "json", *words).stdout)


def test_each_side_is_what_estimate_says_of_it_alone(folder):
    found = compared(folder, "a.yaml", "b.yaml")
    alone = [
        json.loads(command(folder, "estimate", name, *H100, "--format", "json").stdout)
        for name in ("a.yaml", "b.yaml")
    ]

    for side, report in zip(("before", "after"), alone, strict=True):
        assert found[side]["verdict"] == report["verdict"]
        assert found[side]["estimate"] == report["estimate"]
    assert {one["name"]: (one["before"], one["after"]) for one in found["plan"]} == {
        "micro_batch_size": (1, 4),
        "activation_checkpointing": ("full", "none"),
    }


def test_terms_that_differ_make_the_whole_difference(folder):
    """What is not listed is equal: the changes of all terms are the difference of their sums."""
    found = compared(folder, "a.yaml", "b.yaml")
    sums = [
        sum(term["num_bytes"] for term in found[side]["estimate"]["terms"])
        for side in ("before", "after")
    ]
    changes = [(one["after"] or 0) - (one["before"] or 0) for one in found["terms"]]

    assert sum(changes) == sums[1] - sums[0]
    assert 0 not in changes
    assert changes == sorted(changes, key=lambda change: -abs(change))


def test_a_launch_beside_itself_differs_in_nothing(folder):
    found = compared(folder, "a.yaml", "a.yaml")
    done = command(folder, "diff", *H100, "one.sh", "one.sh")

    assert (found["plan"], found["terms"], found["step_time_factor"]) == ([], [], 1.0)
    assert "no field differs" in done.stdout


def test_the_exit_code_is_that_of_the_second(folder):
    assert command(folder, "diff", *H100, "a.yaml", "b.yaml").returncode == 1
    assert command(folder, "diff", *H100, "b.yaml", "a.yaml").returncode == 0


def test_a_script_a_line_of_one_and_a_command_are_the_same_launch(folder):
    for other in ("two.sh:1", f"{LAUNCH} 1"):
        assert compared(folder, "one.sh", other)["plan"] == []
    (field,) = compared(folder, "one.sh", "two.sh:2")["plan"]
    assert (field["name"], field["before"], field["after"]) == ("micro_batch_size", 1, 2)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("two.sh", "2 launches stand in two.sh\n  fix  one of two.sh:1, two.sh:2"),
        ("two.sh:7", "2 launches stand in two.sh:7"),
        ("c.yaml", "there is no file c.yaml"),
        ("train.py", "no launch stands in train.py"),
        ("torchrun 'train.py", "no shell would take this command"),
    ],
)
def test_what_is_no_launch_is_told_with_the_way_on(folder, word, said):
    done = command(folder, "diff", *H100, "a.yaml", word)

    assert done.returncode == 2 and said in done.stderr


def test_markdown_and_the_page_have_every_field_and_phase_that_text_has(folder):
    text = command(folder, "diff", *H100, "a.yaml", "b.yaml").stdout
    page = folder / "diff.html"
    markdown = command(
        folder, "diff", *H100, "--format", "md", "--report", str(page), "a.yaml", "b.yaml"
    ).stdout

    assert text.startswith("preflight: fits -> does not fit\n")
    for row in ("activation_checkpointing", "second step", "step time, about", "+118.0 GiB"):
        assert row in text and row in markdown and row in page.read_text()
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in rows} == {2, 3}
    assert "<script" not in page.read_text().replace("<script></script>", "")


def plan(**more) -> LaunchPlan:
    return LaunchPlan(model="meta-llama/Llama-3.1-8B", micro_batch_size=1, seq_len=512, **more)


def test_compare_takes_plans_reports_and_argv(folder):
    argv = f"{LAUNCH} 1".split()
    report = preflight.check(argv, device="h100-sxm-80", cwd=folder)
    found = preflight.compare(report, argv, device="h100-sxm-80", cwd=folder)
    plans = preflight.compare(plan(), plan(load_dtype="bf16"), device="h100-sxm-80")

    assert found.differences.plan == ()
    assert found.text.startswith("preflight: ") and "\x1b" not in found.text
    assert [one.name for one in plans.differences.plan] == ["load_dtype"]
    assert len(repr(plans)) < 120


@pytest.mark.parametrize("ask", [preflight.estimate, preflight.check])
def test_a_value_that_no_launch_can_have_is_refused_as_the_command_line_does(ask):
    with pytest.raises(preflight.BadInput, match=r"not 'fsdp3'\n  fix  did you mean fsdp2"):
        ask(plan(engine="fsdp3"))


@pytest.fixture(scope="module")
def report():
    return preflight.check(plan(), device="rtx4090-24")


def test_a_report_is_a_line_to_look_at_and_its_text_is_what_check_prints(report, folder):
    (folder / "tiny.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nmicro_batch_size: 1\nseq_len: 512\n"
    )
    printed = command(folder, "estimate", "tiny.yaml", "--device", "rtx4090-24").stdout

    assert repr(report).startswith("<Report: does not fit: ") and len(repr(report)) < 250
    assert len(repr(report.estimate)) < 250
    assert report.text.splitlines()[0] == printed.splitlines()[0]
    assert report.to_html().startswith("<!doctype html>")


def test_a_notebook_shows_the_verdict_the_phases_and_the_text(report):
    """What Jupyter asks a value for (IPython/core/formatters.py): one element, closed, without styles of the page."""
    from html.parser import HTMLParser

    shown = report._repr_html_()
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(shown)

    assert opened == [] and shown.startswith("<div ") and "<style" not in shown
    assert "does not fit" in shown and "optimizer step" in shown
    assert report.text.splitlines()[-1][:40] in shown


def test_another_card_is_a_difference(folder):
    launch = [*LAUNCH.split(), "1"]
    reports = [
        preflight.check(launch, device=card, cwd=folder) for card in ("h100-sxm-80", "h200-sxm-141")
    ]
    shown = preflight.compare(*reports).text

    assert "h200-sxm-141" in shown
    assert "no field differs" not in shown
