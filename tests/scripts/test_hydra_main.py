"""What Hydra and OmegaConf give a script is read: files, groups, the command line's words, and what the script changes."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import hydra
import torch
from datasets import load_dataset
from omegaconf import DictConfig, OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

HEAD
    tokenizer = AutoTokenizer.from_pretrained(cfg.model.name)
    model = AutoModelForCausalLM.from_pretrained(cfg["model"]["name"], torch_dtype=torch.bfloat16)
    rows = load_dataset("own/rows", split="train").map(
        lambda row: tokenizer(row["text"], truncation=True, max_length=cfg.data.get("max_length", 64))
    )
    arguments = TrainingArguments(output_dir="out", **cfg.trainer)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False)).train()

TAIL
"""
FILES = {
    "conf/train.yaml": "defaults: [{model: small}, _self_]\ndata: {max_length: 2048}\nlength: 8\ntrainer:\n"
    "  per_device_train_batch_size: 4\n  gradient_checkpointing: true\n  bf16: true\n",
    "conf/model/small.yaml": "name: Qwen/Qwen2.5-0.5B\n",
    "conf/model/large.yaml": "name: Qwen/Qwen2.5-7B\n",
}
HYDRA = '@hydra.main(version_base=None, config_path="conf", config_name="train")\ndef main(cfg: DictConfig):'
OMEGA = """\
def main():
    cfg = OmegaConf.merge(OmegaConf.load("conf/train.yaml"), OmegaConf.load("conf/own.yaml"), OmegaConf.from_cli())"""
RUN = 'if __name__ == "__main__":\n    main()'


def read(folder, words="", head=HYDRA):
    script = SCRIPT.replace("HEAD", head).replace("TAIL", RUN)
    beside = FILES["conf/train.yaml"].partition("\n")[2]
    files = {
        **FILES,
        "beside.yaml": beside,
        "conf/own.yaml": "model: {name: Qwen/Qwen2.5-1.5B}\n",
        "train.py": script,
    }
    plan = plan_of(folder, f"torchrun --nproc_per_node 2 train.py {words}", files)
    return plan.model, plan.micro_batch_size, plan.seq_len, plan.activation_checkpointing


@pytest.mark.parametrize(
    ("words", "model", "rows", "length"),
    [
        ("", "Qwen/Qwen2.5-0.5B", 4, 2048),
        ("model=large trainer.per_device_train_batch_size=1", "Qwen/Qwen2.5-7B", 1, 2048),
        ("data.max_length=512 ++model.name=Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B", 4, 512),
        ("data.max_length=${length}", "Qwen/Qwen2.5-0.5B", 4, 8),
        ("~data.max_length", "Qwen/Qwen2.5-0.5B", 4, 64),
    ],
)
def test_what_hydra_gives_a_function_is_read(tmp_path, words, model, rows, length):
    assert read(tmp_path, words) == (model, rows, length, "full")


def test_what_omegaconf_loads_merges_and_takes_from_the_command_line_is_read(tmp_path):
    words = "trainer.per_device_train_batch_size=2"

    assert read(tmp_path, words, OMEGA) == ("Qwen/Qwen2.5-1.5B", 2, 2048, "full")


@pytest.mark.parametrize(
    "words", ["model=absent", "--config-name other", "trainer.per_device_train_batch_size=${own:2}"]
)
def test_what_is_not_here_is_not_known(tmp_path, words):
    assert read(tmp_path, words)[1] is None


@pytest.mark.parametrize(
    ("given", "is_read"),
    [
        ('config_path="conf", config_name="train"', True),
        ('"conf", "train"', True),
        ('config_name="beside"', True),
        ('version_base=None, config_name="beside"', False),
        ('config_path=None, config_name="beside"', False),
    ],
)
def test_a_configuration_lies_beside_the_script_where_hydra_looks_there(tmp_path, given, is_read):
    head = f"@hydra.main({given})\ndef main(cfg: DictConfig):"

    assert (read(tmp_path, head=head)[1] == 4) is is_read


def test_what_the_script_sets_in_its_configuration_is_not_what_the_file_says(tmp_path):
    changed = HYDRA + "\n    cfg.data.max_length = len(cfg)"

    assert read(tmp_path, head=changed)[2] is None
