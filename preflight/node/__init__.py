"""The node that the ranks start on: limits, packages, network, and the checks of it."""
