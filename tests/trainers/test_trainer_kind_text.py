"""Which trainer a script's text names: TRL's where it names one of its trainers, not where it borrows a collator."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.trainers.kind import trainer_kind

TEXTS = {
    "from trl import SFTConfig, SFTTrainer\n": "trl",
    "from trl import (\n    DPOConfig,\n    DPOTrainer,\n)\n": "trl",
    "import trl\ntrl.SFTTrainer(args=trl.SFTConfig())\n": "trl",
    "from trl.trainer.sft_trainer import SFTTrainer\n": "trl",
    "from trl import DataCollatorForCompletionOnlyLM\nimport lightning as L\nL.Trainer().fit(m)\n": None,
    "from lightning.pytorch import Trainer\nTrainer().fit(m)\n": None,
    "class Trainer:\n    pass\nTrainer(args).train()\n": None,
    "class Trainer(torch.nn.Module):\n    pass\nTrainer(args).train()\n": None,
    "from mine.loops import Trainer\nTrainer(args).train()\n": None,
    "COLORS = {'SFTTrainer': 'green', \"DPOTrainer\": 'red'}\ntrain(COLORS)\n": None,
    "from unsloth import *\nSFTTrainer(model).train()\n": "trl",
    "from composer import Trainer\nTrainer(model).fit()\n": None,
    "class TrainingArguments:\n    rows: int = 1\n": None,
    "class Trainer(transformers.Trainer):\n    pass\nTrainer(m).train()\n": "transformers",
    "class Trainer(HFTrainer):\n    pass\nTrainer(m).train()\n": "transformers",
    "from transformers import (\n    Trainer,\n)\nTrainer(m).train()\n": "transformers",
    "class TrainingArguments(transformers.TrainingArguments):\n    rows: int = 1\n": "transformers",
    "class Trainer:\n    pass\nfrom transformers import TrainingArguments\n": "transformers",
    "import transformers\ntransformers.Trainer(model=m)\n": "transformers",
    "from trl import setup_chat_format\nfrom transformers import TrainingArguments\n": "transformers",
    "from trl import create_reference_model\nfrom accelerate import Accelerator\nAccelerator()\n": "plain_loop",
}


@pytest.mark.parametrize(("text", "trainer"), TEXTS.items(), ids=range(len(TEXTS)))
def test_a_script_trains_with_what_it_names(tmp_path, text, trainer):
    (tmp_path / "train.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))

    assert trainer_kind("train.py", (), command).trainer == trainer
