"""Finds out why a trace is wrong: what is installed, set and answered here, and what a program really does.

Reads and asks only, and prints no value that may be a secret.
"""
