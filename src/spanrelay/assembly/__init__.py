"""Spans to transcript to document: what reassembles trajectories.

A span goes through `assembler`, which asks `sessions` whose it is, `order` when a model call's turn has come, `told`
whether it stands somewhere already, and `placing` where it goes. `request`, `answer` and `runs` then write into the
`document` what is new, whose journal is one of `sinks` or `memory`.
"""
