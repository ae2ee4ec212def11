"""Reads verl's PPO and SFT trainers with their overrides, and writes them back; Megatron workers are named."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.verl import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
