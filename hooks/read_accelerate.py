"""Reads `accelerate launch` commands, and writes them back with other values."""

from preflight.hookspecs import hookimpl
from preflight.launchers.accelerate import LAUNCHER
from preflight.launchers.contract import reading, writing

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
