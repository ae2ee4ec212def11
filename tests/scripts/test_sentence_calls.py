"""What a script that trains with sentence-transformers says is read; a loss, a model or a trainer of another kind leaves it unknown."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

SCRIPT = """\
import sys
from datasets import Dataset, load_dataset
from sentence_transformers import CrossEncoder, SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments, losses, models
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

name = sys.argv[1] if len(sys.argv) > 1 else "google-bert/bert-base-uncased"
model = SentenceTransformer(name)
train_dataset = load_dataset("sentence-transformers/all-nli", "triplet", split="train").select(range(10000))
loss = losses.MultipleNegativesRankingLoss(model)
args = SentenceTransformerTrainingArguments(output_dir="out", per_device_train_batch_size=64, fp16=True)
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=train_dataset, loss=loss)
trainer.train()
"""
RANKING = "losses.MultipleNegativesRankingLoss(model)"
DATA = (
    'load_dataset("sentence-transformers/all-nli", "triplet", split="train").select(range(10000))'
)
MODEL = "SentenceTransformer(name)"
TRAINER = "trainer = SentenceTransformerTrainer(model=model"


def report_of(tmp_path, *changes: tuple[str, str], words: str = ""):
    text = SCRIPT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "train.py").write_text(text)
    command = LaunchCommand(
        ("python", "train.py", *words.split()), {"CUDA_VISIBLE_DEVICES": "0"}, str(tmp_path)
    )
    return check_launch(command, load_plugins(), Request(device="h100-sxm-80"))


READ = {
    "triplets": ([], 3, None),
    "a loss of two texts": ([(RANKING, "losses.CoSENTLoss(model)")], 2, None),
    "its own loss": ([(", loss=loss", "")], 2, None),
    "a nested one": (
        [(RANKING, f"losses.MatryoshkaLoss(model, {RANKING}, [768, 128])")], 3, None,
    ),
    "a cached one": ([(RANKING, "losses.CachedMultipleNegativesRankingLoss(model)")], 3, 32),
    "its rows": (
        [(RANKING, "losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=16)")], 3, 16,
    ),
    "columns": ([(DATA, f'{DATA}.select_columns(["anchor", "positive", "label"])')], 2, None),
    "rows of its own": ([(DATA, 'Dataset.from_dict({"anchor": a, "positive": b})')], 2, None),
    "parts": (
        [(MODEL, "SentenceTransformer(modules=[models.Transformer(name, max_seq_length=64), models.Pooling(768)])")],
        3, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "texts", "cached"), READ.values(), ids=READ)
def test_texts_of_a_row_are_what_loss_and_data_say(tmp_path, changes, texts, cached):
    report = report_of(tmp_path, *changes)
    plan = report.plan

    assert (plan.objective, plan.texts_per_row, plan.cached_rows) == ("embedding", texts, cached)
    assert (plan.model, plan.micro_batch_size) == ("google-bert/bert-base-uncased", 64)
    assert report.final_verdict.unpriced == ()


UNKNOWN = {
    "a teacher": [("model)\nargs", "model)\nteacher = SentenceTransformer('big')\nargs")],
    "a teacher of transformers": [("model)\nargs", "model)\nteacher = AutoModel.from_pretrained('big')\nargs")],
    "a model of another library": [("model)\nargs", "model)\naug = Augmenter(model_path='big')\nargs")],
    "a guide, by keyword": [(RANKING, "losses.GISTEmbedLoss(model, guide=SentenceTransformer('big'))")],
    "a loss of its own": [(RANKING, "Mine(model)"), ("name =", "class Mine(losses.CoSENTLoss): ...\nname =")],
    "outputs of every layer": [(RANKING, f"losses.AdaptiveLayerLoss(model, {RANKING})")],
    "several losses": [("loss=loss", "loss={'a': loss, 'b': loss}")],
    "texts of every rank": [(RANKING, "losses.MultipleNegativesRankingLoss(model, gather_across_devices=True)")],
    "a corpus": [("loss=loss)", "loss=loss, evaluator=InformationRetrievalEvaluator(a, b, c))")],
    "layers of its own": [(MODEL, "SentenceTransformer(modules=[models.Transformer(name), models.CNN(768)])")],
    "another trainer": [
        (TRAINER, "trainer = Mine(model=model"), ("name =", "class Mine(SentenceTransformerTrainer): ...\nname ="),
    ],
    "words of a vocabulary": [(MODEL, "SparseEncoder(name)")],
    "columns that nobody says": [(DATA, "load_dataset('some/pairs')")],
}  # fmt: skip


@pytest.mark.parametrize("changes", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_more_than_a_known_loss_of_one_model_is_unknown(tmp_path, changes):
    report = report_of(tmp_path, *changes)

    assert report.final_verdict.answer.value == "unknown"
    assert report.final_verdict.unpriced


def test_a_checkout_of_the_library_is_the_library(tmp_path):
    """Its examples import the package that lies above them, which has heads, losses and images of every kind."""
    package = tmp_path / "sentence_transformers"
    package.mkdir()
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='sentence-transformers')\n"
    )
    own = "class SentenceTransformer:\n    def forward(self, pixel_values):\n        self.model.layers.append(RewardModel())\n"
    (package / "__init__.py").write_text(own)
    report = report_of(tmp_path)

    assert report.plan.model == "google-bert/bert-base-uncased"
    assert report.final_verdict.unpriced == ()


def test_a_word_of_the_command_line_names_the_model(tmp_path):
    assert (
        report_of(tmp_path, words="FacebookAI/roberta-base").plan.model == "FacebookAI/roberta-base"
    )
    assert report_of(tmp_path, words="<model>").plan.model is None


OF_CROSS_ENCODER = [
    (MODEL, "CrossEncoder(name, num_labels=1)"),
    ("SentenceTransformerTrainingArguments(", "CrossEncoderTrainingArguments("),
    (TRAINER, "trainer = CrossEncoderTrainer(model=model"),
]


@pytest.mark.parametrize(
    ("loss", "objective"),
    [
        ("BinaryCrossEntropyLoss(model)", "sequence_classification"),
        ("losses.LambdaLoss(model)", None),
    ],
)
def test_a_cross_encoder_scores_a_row_at_once_or_is_unknown(tmp_path, loss, objective):
    report = report_of(tmp_path, *OF_CROSS_ENCODER, (RANKING, loss))

    assert report.plan.objective == objective
    assert report.final_verdict.answer.value == ("fits" if objective else "unknown")
