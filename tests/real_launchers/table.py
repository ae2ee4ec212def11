"""The launchers that are started for real: what installs them, and the files and the command of a launch that trains two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

ROOMY, SMALL = "tiny:1.9", "tiny:0.0005"
"""Devices that the launches fit and do not fit, in GiB."""


@dataclass(frozen=True)
class Launcher:
    """A framework with a launch of two steps; folders `model` and `data` lie beside its files."""

    packages: tuple[str, ...]
    """What pip installs; the first is whose version is recorded."""
    command: str
    files: dict[str, str] = field(default_factory=dict)
    prepare: str = ""
    """Python that its own environment runs first, where a checkpoint of its own form is needed."""
    roomy: str = ROOMY
    small: str = SMALL


LLAMAFACTORY = """\
model_name_or_path: model
stage: sft
do_train: true
finetuning_type: full
dataset_dir: data
dataset: tiny
template: empty
cutoff_len: 128
per_device_train_batch_size: 2
max_steps: 2
learning_rate: 1.0e-3
output_dir: out
report_to: none
save_strategy: "no"
bf16: false
use_cpu: true
preprocessing_num_workers: 1
dataloader_num_workers: 0
"""

WITHOUT_CUDA = """\
import importlib.util, shutil
folder, = importlib.util.find_spec("torchaudio").submodule_search_locations
shutil.rmtree(folder + "/lib", ignore_errors=True)
"""
"""The package index has torchaudio with CUDA alone; what it compiled is not loaded where it is not there."""

OUMI = """\
model:
  model_name: model
  model_max_length: 128
  torch_dtype_str: float32
  device_map: null
data:
  train:
    datasets:
      - dataset_name: text_sft_jsonl
        dataset_path: data/chat.jsonl
training:
  trainer_type: TRL_SFT
  per_device_train_batch_size: 2
  max_steps: 2
  optimizer: adamw_torch
  output_dir: out
  enable_wandb: false
  enable_tensorboard: false
  save_steps: 0
  save_final_model: false
"""

AXOLOTL = """\
base_model: model
datasets:
  - path: data/instructions.jsonl
    ds_type: json
    type: alpaca
sequence_len: 512
micro_batch_size: 2
gradient_accumulation_steps: 1
max_steps: 2
optimizer: adamw_torch
learning_rate: 1e-3
bf16: false
fp16: false
tf32: false
output_dir: out
dataset_prepared_path: prepared
save_strategy: "no"
"""

TORCHTUNE = """\
output_dir: out
tokenizer:
  _component_: torchtune.models.qwen2.qwen2_tokenizer
  path: model/vocab.json
  merges_file: model/merges.txt
  max_seq_len: 128
model:
  _component_: torchtune.models.qwen2.qwen2_0_5b
checkpointer:
  _component_: torchtune.training.FullModelTorchTuneCheckpointer
  checkpoint_dir: qwen
  checkpoint_files: [model.pt]
  output_dir: out
  model_type: QWEN2
resume_from_checkpoint: false
dataset:
  _component_: torchtune.datasets.text_completion_dataset
  source: json
  data_files: data/text.jsonl
  column: text
  split: train
  packed: false
seed: 0
shuffle: true
batch_size: 1
epochs: 1
max_steps_per_epoch: 2
gradient_accumulation_steps: 1
optimizer:
  _component_: torch.optim.SGD
  lr: 1e-4
optimizer_in_bwd: false
loss:
  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss
compile: false
clip_grad_norm: null
device: cpu
dtype: fp32
enable_activation_checkpointing: true
enable_activation_offloading: false
metric_logger:
  _component_: torchtune.training.metric_logging.DiskLogger
  log_dir: out
log_every_n_steps: 1
log_peak_memory_stats: false
profiler:
  _component_: torchtune.training.setup_torch_profiler
  enabled: false
"""

TORCHTUNE_CHECKPOINT = """\
import os, torch
from torchtune.models.qwen2 import qwen2_0_5b
os.mkdir("qwen")
torch.save(qwen2_0_5b().state_dict(), "qwen/model.pt")
"""

LITGPT_CHECKPOINT = """\
import json, shutil, torch
from dataclasses import asdict
from pathlib import Path
import yaml
from litgpt import GPT, Config
folder = Path("checkpoints/EleutherAI/pythia-14m")
folder.mkdir(parents=True)
config = Config.from_name("pythia-14m")
torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
(folder / "model_config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(config)))))
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(Path("model") / name, folder)
"""

SENTENCE_TRANSFORMERS = """\
from datasets import load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

model = SentenceTransformer("model", device="cpu")
model.max_seq_length = 128
rows = load_dataset("json", data_files="data/pairs.jsonl", split="train").select_columns(["anchor", "positive"])
arguments = SentenceTransformerTrainingArguments(
    output_dir="out", max_steps=2, per_device_train_batch_size=2, save_strategy="no", report_to="none", use_cpu=True
)
SentenceTransformerTrainer(
    model=model, args=arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
).train()
"""

LAUNCHERS = {
    "llamafactory": Launcher(
        ("llamafactory",),
        "llamafactory-cli train sft.yaml",
        {"sft.yaml": LLAMAFACTORY},
        prepare=WITHOUT_CUDA,
    ),
    "ms-swift": Launcher(
        ("ms-swift",),
        "swift sft --model model --model_type llama --template dummy --tuner_type full"
        " --dataset data/chat.jsonl --torch_dtype float32 --max_length 512 --per_device_train_batch_size 2"
        " --max_steps 2 --output_dir out --save_strategy no --report_to none --device_map cpu --use_hf true"
        " --dataloader_num_workers 0 --gradient_accumulation_steps 1",
    ),
    "oumi": Launcher(("oumi",), "oumi train -c train.yaml", {"train.yaml": OUMI}),
    "litgpt": Launcher(
        ("litgpt", "requests"),
        "litgpt finetune_full checkpoints/EleutherAI/pythia-14m --data JSON --data.json_path data/instructions.json"
        " --data.val_split_fraction 0.1 --train.max_steps 2 --train.micro_batch_size 2 --train.global_batch_size 2"
        " --train.max_seq_length 128 --precision 32-true --devices 1 --out_dir out --eval.initial_validation false"
        " --eval.final_validation false --eval.max_new_tokens 1",
        prepare=LITGPT_CHECKPOINT,
    ),
    "torchtune": Launcher(
        ("torchtune", "torchao==0.15.0"),
        "tune run full_finetune_single_device --config full.yaml",
        {"full.yaml": TORCHTUNE},
        prepare=TORCHTUNE_CHECKPOINT,
        roomy="cpu:20",
        small="cpu:1",
    ),
    "axolotl": Launcher(("axolotl",), "axolotl train sft.yaml", {"sft.yaml": AXOLOTL}),
    "sentence-transformers": Launcher(
        ("sentence-transformers[train]",),
        "python train_pairs.py",
        {"train_pairs.py": SENTENCE_TRANSFORMERS},
    ),
}
