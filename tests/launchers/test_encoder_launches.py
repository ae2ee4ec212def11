"""An encoder's launch is judged with the head that its script loads; with a head that nobody names it is unknown."""

from __future__ import annotations

import pytest

from preflight.formulas.layers.heads import HEAD
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

LOOP = """\
from accelerate import Accelerator
from torch.optim import AdamW
from transformers import {head}, AutoTokenizer

def main():
    accelerator = Accelerator()
    tokenizer = AutoTokenizer.from_pretrained("{model}")
    rows = raw.map(lambda row: tokenizer(row["text"], truncation=True, max_length=None))
    model = {head}.from_pretrained("{model}")
    optimizer = AdamW(params=model.parameters(), lr=2e-5)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(rows, batch_size=16))
    for batch in loader:
        outputs = model(**batch)
        loss = {loss}
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

main()
"""


def report_of(tmp_path, head: str, model: str, loss: str = "outputs.loss"):
    (tmp_path / "train.py").write_text(LOOP.format(head=head, model=model, loss=loss))
    words = ("accelerate", "launch", "--num_processes", "1", "train.py")
    return check_launch(
        LaunchCommand(words, cwd=str(tmp_path)), load_plugins(), Request(device="h100-sxm-80")
    )


@pytest.mark.parametrize(
    ("head", "model", "objective"),
    [
        (
            "AutoModelForSequenceClassification",
            "google-bert/bert-base-cased",
            "sequence_classification",
        ),
        ("BertForTokenClassification", "google-bert/bert-base-cased", "token_classification"),
        ("AutoModelForMaskedLM", "distilbert/distilbert-base-uncased", "masked_lm"),
    ],
)
def test_a_loop_says_its_head_and_rows_are_as_long_as_the_model_has_places(
    tmp_path, head, model, objective
):
    report = report_of(tmp_path, head, model)

    assert report.plan.objective == objective
    assert report.plan.origins["seq_len"].may_be[-1] == 512
    assert report.final_verdict.answer.value == "fits"


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        ("AutoModel", "outputs.loss"),  # of what is not known: a head of the script's own
        ("AutoModelForSequenceClassification", "margin(outputs.logits)"),
    ],
)
def test_an_encoder_whose_head_or_loss_is_not_read_is_unknown(tmp_path, head, loss):
    report = report_of(tmp_path, head, "google-bert/bert-base-cased", loss)

    assert report.verdict.answer.value == "unknown"
    assert HEAD in report.verdict.unpriced
