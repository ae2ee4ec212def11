"""What a script of somebody's own is seen to decide or to hold, told by the names in its text and in its repository's."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.scripts.signs import UNPRICED, signs_of

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


def test_all_that_is_not_priced_says_where_the_estimate_is_wrong():
    assert {takes for _, takes in UNPRICED.values()} == {"more", "less", "either"}
