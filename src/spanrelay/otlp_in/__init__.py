"""Telemetry of others, from files: spans and log records of whoever wrote them, as plain data, then as records.

One file for each form that OTLP is recorded in; `files` finds out which a file has.
"""
