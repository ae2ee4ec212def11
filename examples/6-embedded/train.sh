#!/bin/bash
# Trains on two ranks of this machine; flags go to launch.py.
set -euo pipefail
cd "$(dirname "$0")"
exec python launch.py "$@"
