"""The report as one HTML file: what it holds, how it reads, and what its sliders say in a real browser."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from page_reader import read
from test_other_pages import CUT_BY
from tiny_llama import TINY_LLAMA

from preflight.commands.output import save_page
from preflight.formulas.engines.buckets import BUCKETS, at_peak
from preflight.pipeline import check_plan
from preflight.plan_dict import plan_from_dict
from preflight.policy import Policy
from preflight.render.html_page import STYLE
from preflight.render.html_report import report_html
from preflight.request import Request
from preflight.studies.what_if import by_method

ROOT = Path(__file__).parents[2]
PLAN = {
    "model": "meta-llama/Llama-3.1-8B", "engine": "fsdp2", "world_size": 8, "shard_degree": 8,
    "reshard_after_forward": True, "trainer": "transformers", "mixed_precision": "bf16",
    "load_dtype": "bf16", "optimizer": "adamw_torch_fused", "micro_batch_size": 2,
    "seq_len": 4096, "attention": "sdpa", "loss": "full_logits", "device": "a100-sxm-80",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(plugins):
    return check_plan(plan_from_dict(PLAN, "the test"), plugins, Request())


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory) -> Path:
    """The page of the example that is rewritten, as its command writes it."""
    path = tmp_path_factory.mktemp("page") / "out.html"
    words = (ROOT / "examples" / "2-rewritten" / "command.sh").read_text().split("preflight fix")[1]
    folder = tmp_path_factory.mktemp("launch")
    for name in ("fsdp2.yaml", "train.py"):
        (folder / name).write_text((ROOT / "examples/2-rewritten" / name).read_text())
    run = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m preflight fix --report '{path}' {words}"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return path


def test_a_page_is_whole_and_refers_to_nothing_outside(rewritten):
    reader = read(rewritten.read_text())

    assert reader.open == []
    assert reader.links == []
    assert "http" not in re.sub(r"github\.com\S*|huggingface\.co\S*", "", STYLE)
    assert "default-src 'none'" in rewritten.read_text()


def test_every_picture_says_in_words_what_it_shows(rewritten):
    pictures = read(rewritten.read_text()).pictures

    assert len(pictures) >= 15
    assert all(re.search(r"\d", words) for words in pictures)
    assert any("second step: 175.2 GiB" in words for words in pictures)


def test_a_page_says_what_the_text_says(rewritten):
    text = rewritten.read_text()

    for said in (
        "Does not fit as written, fits rewritten",
        "reshard_after_forward",
        "activation_checkpointing",
        "<del>-  fsdp_reshard_after_forward: false",
        "<ins>+  fsdp_reshard_after_forward: true",
        "Every memory term, with its formula and source",
        "accelerate launch --config_file .preflight/fsdp2.yaml",
    ):
        assert said in text, said


def test_names_of_users_are_text_and_no_tags(plugins):
    values = {**PLAN, "model": "./</script><script>alert(1)</script>"}
    plan = plan_from_dict({**values, "model_config": TINY_LLAMA}, "<b>here</b>")
    report = check_plan(plan, plugins, Request())
    text = report_html(report, "check", by_method(report, plugins, Policy()))

    assert "<script>alert" not in text
    assert "<b>here" not in text
    assert read(text).open == []


def test_the_buckets_of_a_phase_add_up_to_its_device_bytes(report):
    for peak in report.estimate.peaks:
        sums = at_peak(report.estimate, peak)

        assert tuple(sums) == BUCKETS
        assert sum(sums.values()) == peak.device_bytes


@pytest.mark.parametrize("is_dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(is_dark):
    """WCAG 2.1, 1.4.3: a contrast of 4.5 for text, on the page and on a panel."""
    light, dark = STYLE.split("prefers-color-scheme: dark")
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light))
    if is_dark:
        colors.update(re.findall(r"--(\w+): (#[0-9a-f]{6})", dark.split("} }")[0]))
    for name in ("ink", "muted", "good", "warn", "bad"):
        for behind in ("paper", "panel"):
            assert contrast(colors[name], colors[behind]) >= 4.5, (name, behind)
    for behind in ("added", "removed"):
        assert contrast(colors["ink"], colors[behind]) >= 4.5, behind


def contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("path", ["out.txt", "no/such/folder/out.html"])
def test_a_page_that_cannot_be_written_is_bad_input(report, plugins, path, tmp_path):
    from preflight.errors import BadInput

    with pytest.raises(BadInput):
        save_page(str(tmp_path / path), report, "check", plugins, Policy())
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_get_its_name_leaves_no_draft(report, plugins, tmp_path):
    from preflight.errors import BadInput

    (tmp_path / "out.html").mkdir()
    with pytest.raises(BadInput):
        save_page(str(tmp_path / "out.html"), report, "check", plugins, Policy())
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


@pytest.mark.launch
def test_without_javascript_everything_but_the_sliders_is_there(rewritten, browse, tmp_path):
    bare = tmp_path / "bare.html"
    text = rewritten.read_text()
    bare.write_text(text.replace("script-src 'unsafe-inline'", "script-src 'none'"))
    document = browse(bare, "--dump-dom")

    assert 'id="what-if-says" role="status"></p>' in document
    assert 'style="display: block' not in document
    assert "One training step" in document


@pytest.mark.launch
@pytest.mark.parametrize("width", [1100, 500])
def test_a_page_is_not_wider_than_the_window(rewritten, browse, tmp_path, width):
    page = tmp_path / "measured.html"
    probe = (
        "<script>document.title='wide by '+"
        "(document.documentElement.scrollWidth-document.documentElement.clientWidth)</script>"
    )
    page.write_text(rewritten.read_text().replace("</body>", f"{probe}</body>"))
    picture = tmp_path / "page.png"
    document = browse(page, f"--window-size={width},1400", "--dump-dom")
    browse(rewritten, f"--window-size={width},1400", f"--screenshot={picture}")
    header = picture.read_bytes()[:24]

    assert "<title>wide by 0</title>" in document
    assert struct.unpack(">II", header[16:24]) == (width, 1400)


@pytest.mark.launch
def test_a_phone_shows_what_to_change_without_scrolling(rewritten, browse, tmp_path):
    page = tmp_path / "phone.html"
    page.write_text(rewritten.read_text().replace("</body>", CUT_BY.format(kind="remedies")))

    assert "<title>cut by 0</title>" in browse(page, "--window-size=500,900", "--dump-dom")


def test_a_page_names_what_was_checked_and_draws_what_would_fit(tmp_path):
    """As the command line's report does, in the same numbers."""
    (tmp_path / "train.py").write_text(TRAINING)
    command = [sys.executable, "-m", "preflight", "check", "--device", "rtx4090-24"]
    command += ["--report", "out.html", "--", "python", "train.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    page = (tmp_path / "out.html").read_text()
    table = page.partition("<h2>What would fit</h2>")[2].partition("</table>")[0]
    told = run.stdout.partition("what would fit (")[2].splitlines()
    peaks = [
        line.split()[3] for line in told if line.split()[:1] in (["full"], ["LoRA"], ["QLoRA"])
    ]

    assert run.returncode == 1, run.stderr
    assert re.search(r"Checked on \d{4}-\d\d-\d\d: <code>python train.py</code>", page)
    assert "<code>preflight run</code> would start nothing; take a suggestion below" in page
    assert len(peaks) >= 3 and all(f"{peak} GiB" in table for peak in peaks[:3])
    assert table.count('class="bar"') == 3 and table.count("var(--good)") >= 1


TRAINING = """\
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

args = SFTConfig(output_dir="out", max_length=4096, per_device_train_batch_size=4, bf16=True)
data = load_dataset("x")["train"]
SFTTrainer(model="meta-llama/Llama-3.1-8B", args=args, train_dataset=data).train()
"""
