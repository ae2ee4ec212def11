"""Reads `swift sft`, `swift pt` and `swift rlhf` and ms-swift's scripts under any launcher, and writes them back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading, writing
from preflight.launchers.swift import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
preflight_write_launch = hookimpl(writing(LAUNCHER))
