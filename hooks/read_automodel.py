"""Reads NeMo Automodel's recipe for next-token training; its other recipes are named."""

from preflight.hookspecs import hookimpl
from preflight.launchers.automodel import LAUNCHER
from preflight.launchers.contract import reading

preflight_read_launch = hookimpl(reading(LAUNCHER))
