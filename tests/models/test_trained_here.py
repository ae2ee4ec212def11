"""A folder that a launch of the repository trains into has the shapes of the model that the launch starts from."""

from __future__ import annotations

import pytest

import preflight
from preflight.models.trained_here import named_by_launch
from preflight.verdict import Answer

STAGES = """\
accelerate launch train.py --seq-length 8192 \\
  --output-dir ./output/first_8K \\
  --model meta-llama/Llama-2-7b-hf
accelerate launch train.py --output_dir=output/second --model_name_or_path "output/first_8K/"
accelerate launch train.py --output_dir output/twice --model gpt2
accelerate launch train.py --output_dir output/twice --model meta-llama/Llama-2-7b-hf
accelerate launch train.py --output_dir output/circle --model output/circle
accelerate launch train.py --output_dir output/$NAME --model gpt2
accelerate launch train.py --output_dir output/own --model ours/unheard-of
# First, download meta-llama/Llama-2-7b-hf to output/fetched and change its config.json.
accelerate launch train.py --output_dir output/third --model output/fetched
huggingface-cli download meta-llama/Llama-2-7b-hf --local-dir base
git clone https://huggingface.co/meta-llama/Llama-2-7b-hf /models/cloned
hf download gpt2/none meta-llama/Llama-2-7b-hf openai-community/gpt2 --local-dir output/both
hf download meta-llama/Llama-2-7b-hf --local-dir output/$NAME
python scripts/expand.py --model_name_or_path meta-llama/Llama-2-7b-hf --output_dir output/wider --num_expand 8
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "all.sh").write_text(STAGES)
    (tmp_path / ".git").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        *("output/first_8K", "./output/second", "output/second/"),
        *("output/fetched", "output/third", "base", "/models/cloned"),
    ],
)
def test_it_is_that_of_the_first_stage(path, folder):
    found = named_by_launch(path, str(folder))

    assert found is not None and found.model == "meta-llama/Llama-2-7b-hf"
    assert not found.has_its_dtype


@pytest.mark.parametrize(
    "path",
    [
        "output/twice",
        "output/circle",
        "output/own",
        "output",
        "gpt3",
        "output/both",
        "output/wider",
    ],
)
def test_what_no_launch_says_clearly_is_not_known(path, folder):
    assert named_by_launch(path, str(folder)) is None


def test_the_launch_is_estimated_with_it_and_the_report_says_why(folder):
    (folder / "train.py").write_text(
        "import torch\nfrom transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments\n"
        "args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n"
        "model = AutoModelForCausalLM.from_pretrained('output/second', torch_dtype=torch.bfloat16)\n"
        "Trainer(model=model, args=args).train()\n"
    )
    argv = [
        "python",
        "train.py",
        "--output_dir",
        "output/third",
        "--per_device_train_batch_size",
        "1",
    ]
    report = preflight.check(argv, device="h100-sxm-80", settings={"seq_len": 512}, cwd=str(folder))

    assert report.model.num_params == 6_738_415_616
    assert "trained from that" in report.model.like.evidence
    assert report.verdict.answer is not Answer.UNKNOWN or not report.verdict.missing
