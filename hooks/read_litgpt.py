"""Reads `litgpt finetune`, `finetune_lora`, `finetune_full` and `pretrain` with their config files."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading
from preflight.launchers.litgpt import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
