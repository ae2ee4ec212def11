"""Reads `axolotl train` and axolotl's training module under accelerate, torchrun and python, and writes them back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.axolotl import LAUNCHER
from preflight.launchers.contract import reading, writing

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
