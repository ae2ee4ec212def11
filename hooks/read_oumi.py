"""Reads `oumi train`, its module under torchrun, accelerate and python, and `oumi distributed`; writes nothing back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading
from preflight.launchers.oumi import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
