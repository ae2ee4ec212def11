"""Reads `litgpt finetune`, `finetune_lora`, `finetune_full` and `pretrain` with their config files, and writes them back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.litgpt import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
