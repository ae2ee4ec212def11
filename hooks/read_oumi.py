"""Reads `oumi train`, its module under torchrun, accelerate and python, and `oumi distributed`, and writes them back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.oumi import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
