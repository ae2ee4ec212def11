"""PF5xx: rules that compare a launch with the node it starts on; imported only where it starts here.

Each module has `findings(plan, ...)`. They read a few files of /proc and /sys below `root`, start
nothing and import no library of the launch.
"""
