"""What a script of somebody's own is seen to decide or to hold, told by the names in its text and in its repository's."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.signs import UNPRICED, signs_of
from preflight.verdict import Answer

OWN_TRAINER = """\
class Contrastive(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
{body}

    def log(self, logs):
        return logs.logits
"""
BODIES = {
    "two passes through an encoder": "        return self.score(model(inputs[0]), model(inputs[1]))",
    "hidden states": "        return cosine(model(**inputs).last_hidden_state)",
}
USUAL_BODIES = {
    "the parent's": "        return super().compute_loss(model, inputs)",
    "the parent's, by name": "        return super(Contrastive, self).compute_loss(model, inputs)",
    "weighted logits": "        out = model(**inputs)\n        return weigh(out.logits)",
    "the model's own loss": '        return model(**inputs)["loss"]',
}


def unpriced(folder, text: str) -> set[str]:
    (folder / "train.py").write_text(text)
    signs = signs_of(LaunchCommand(("torchrun", "train.py"), {}, str(folder)), "train.py")
    return set(signs.unpriced)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_loss_that_is_not_of_the_models_output_is_not_priced(tmp_path, body):
    assert unpriced(tmp_path, OWN_TRAINER.format(body=body)) == {"a loss of its own"}


@pytest.mark.parametrize("body", USUAL_BODIES.values(), ids=USUAL_BODIES)
def test_a_loss_of_logits_is_the_language_models(tmp_path, body):
    assert unpriced(tmp_path, OWN_TRAINER.format(body=body)) == set()


def test_what_an_imported_file_of_the_repository_holds_counts(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "model.py").write_text("from vllm import LLM\nteacher_model = None\n")

    assert unpriced(tmp_path, "from pkg.model import LLM\n") == {
        "an inference engine's share of the card",
        "a teacher",
    }


TRAINING = {
    "a loop": "loss.backward()\noptimizer.step()\n",
    "an engine's": "engine, *_ = deepspeed.initialize(model=m)\n",
    "a framework's": "L.Trainer().fit(module)\n",
}


@pytest.mark.parametrize("text", TRAINING.values(), ids=TRAINING)
def test_a_script_that_trains_has_a_call_that_does(tmp_path, text):
    (tmp_path / "train.py").write_text("from loop import run\n")
    (tmp_path / "loop.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))

    assert signs_of(command, "train.py").may_train
    assert signs_of(command, "absent.py").may_train  # nobody read it
    (tmp_path / "loop.py").write_text("rows.map(tokenize).save_to_disk(out)\n")
    assert not signs_of(command, "train.py").may_train


def test_what_trains_nothing_is_unknown_and_never_refused(tmp_path):
    (tmp_path / "rows.py").write_text(
        "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('meta-llama/Llama-3.1-70B')\n"
    )
    words = ("python", "rows.py", "--model_name_or_path", "meta-llama/Llama-3.1-70B")
    command = LaunchCommand(words, {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("t4-16"))

    assert report.verdict.unpriced == ("a script that does not train",)
    assert report.verdict.answer is Answer.UNKNOWN and report.may_launch


def test_all_that_is_not_priced_says_where_the_estimate_is_wrong():
    assert {takes for _, takes in UNPRICED.values()} == {"more", "less", "either"}
