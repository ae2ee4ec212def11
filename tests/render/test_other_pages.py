"""The pages of trace, validate and size: whole, without network, and saying what the commands say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from page_reader import read

ROOT = Path(__file__).parents[2]
PLAN = """
model_config: {model_type: llama, hidden_size: 256, intermediate_size: 704, num_hidden_layers: 4,
  num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 2048}
engine: single
world_size: 1
load_dtype: bf16
mixed_precision: bf16
micro_batch_size: 2
seq_len: 128
trainer: transformers
optimizer: adamw_torch
"""
COMMANDS = {
    "size": ["meta-llama/Llama-3.1-8B", "--seq-len", "512", "--compare", "Qwen/Qwen3-8B"],
    "validate": [str(ROOT / "tests" / "measured" / "runs-dev.yaml")],
    "trace": ["--plan", "plan.yaml", "--no-cache", "--device", "small:0.0625"],
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """What each command prints, and the page that it writes."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "plan.yaml").write_text(PLAN)
    found = {}
    for name, words in COMMANDS.items():
        run = subprocess.run(
            [sys.executable, "-m", "preflight", name, *words, "--report", f"{name}.html"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        found[name] = run.stdout, (folder / f"{name}.html").read_text()
    return found


@pytest.mark.launch
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_whole_and_refers_to_nothing_outside(name, pages):
    reader = read(pages[name][1])

    assert reader.open == []
    assert reader.links == []


@pytest.mark.launch
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("size", ["Llama-3.1-8B: 8.03 B parameters", "Qwen3-8B", "139.7", "a100-sxm-80"]),
        ("validate", ["By group, engine and counter", "Every run that was compared", "fms_a100"]),
        ("trace", ["Live tensors of one rank", "layers run", "loss_backward", "capacity 64.0 MiB"]),
    ],
)
def test_a_page_says_what_the_command_says(name, said, pages):
    text, page = pages[name]

    for words in said:
        assert words in page, words
    assert text.splitlines()[0].removeprefix("preflight: ")[1:20] in page


CUT_BY = (
    "<script>var box=document.querySelector('.{kind}').parentElement;"
    "document.title='cut by '+(box.scrollWidth-box.clientWidth)</script></body>"
)
"""What tells by how many pixels a table is wider than its place."""


@pytest.mark.launch
def test_pages_fit_their_window(pages, browse, tmp_path):
    for name, (_, page) in pages.items():
        path = tmp_path / f"{name}.html"
        probe = (
            "<script>document.title='wide by '+(document.documentElement.scrollWidth"
            "-document.documentElement.clientWidth)</script></body>"
        )
        path.write_text(page.replace("</body>", probe))

        assert "<title>wide by 0</title>" in browse(path, "--window-size=500,900", "--dump-dom")


@pytest.mark.launch
@pytest.mark.parametrize(("width", "scrolls"), [(1100, False), (500, True)])
def test_a_timeline_scrolls_inside_a_narrow_page_and_nowhere_else(
    width, scrolls, pages, browse, tmp_path
):
    probe = (
        "<script>var box=document.querySelector('[aria-label=timeline]');document.title="
        "'scrolls '+(box.scrollWidth>box.clientWidth)+', drawn '+(box.firstElementChild"
        ".getBoundingClientRect().height>200)</script></body>"
    )
    path = tmp_path / "timeline.html"
    path.write_text(pages["trace"][1].replace("</body>", probe))
    said = f"<title>scrolls {str(scrolls).lower()}, drawn true</title>"

    assert said in browse(path, f"--window-size={width},900", "--dump-dom")


@pytest.mark.launch
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_over_a_timeline_are_drawn_in_the_ink_of_the_theme(theme, pages, browse, tmp_path):
    """A blink setting of 0 is dark, 1 is light."""
    probe = (
        "<script>var at=getComputedStyle(document.querySelector('svg text.over'));"
        "document.title=at.fill+' on '+at.stroke</script></body>"
    )
    path = tmp_path / "theme.html"
    path.write_text(pages["trace"][1].replace("</body>", probe))
    ink, paper = {
        "light": ("rgb(31, 35, 40)", "rgb(255, 255, 255)"),
        "dark": ("rgb(230, 237, 243)", "rgb(13, 17, 23)"),
    }[theme]
    flag = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"

    assert f"<title>{ink} on {paper}</title>" in browse(path, flag, "--dump-dom")


@pytest.mark.launch
def test_a_phone_shows_totals_and_cards_without_scrolling(pages, browse, tmp_path):
    path = tmp_path / "size.html"
    path.write_text(pages["size"][1].replace("</body>", CUT_BY.format(kind="sheet")))

    assert "<title>cut by 0</title>" in browse(path, "--window-size=500,900", "--dump-dom")
