"""Reads OpenRLHF's trainers on DeepSpeed and its PPO on Ray, and writes them back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.openrlhf import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
