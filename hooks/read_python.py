"""Reads `python train.py` and `python -m module`, and writes them back with other values."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.python import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
