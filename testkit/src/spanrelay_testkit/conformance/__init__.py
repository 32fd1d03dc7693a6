"""Conformance: every recorded exchange goes through its provider's real SDK once more, bare and instrumented.

What the program gets and what the provider is sent must be the same, and the span and the trajectory must say what the
exchange's neutral ground truth says. `python -m spanrelay_testkit.conformance [FOLDER]` runs it; an SDK is a file in
`drivers`. Nothing here knows an exchange by its id.
"""
