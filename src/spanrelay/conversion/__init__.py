"""Recorded telemetry to trajectories: gathered by session, made whole trace by trace, assembled, and written.

`gathering` reads and sorts, `traces` makes records of one trace, `documents` writes, and `work` does it all.
"""
