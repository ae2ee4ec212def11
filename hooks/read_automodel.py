"""Reads NeMo Automodel's recipe for next-token training, and writes it back; its other recipes are named."""

from preflight.hookspecs import hookimpl
from preflight.launchers.automodel import LAUNCHER
from preflight.launchers.contract import reading, writing

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
