"""Tables and pages made from installed libraries; what only developers run, not in the wheel."""
