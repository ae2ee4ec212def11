"""Reads verl's PPO and SFT trainers with their overrides; Megatron workers are named."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading
from preflight.launchers.verl import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
