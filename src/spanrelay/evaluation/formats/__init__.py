"""Formats of training files: how a conversation is written as rows of JSON, a module each.

Each has `rows(conversation, origin, reasoning=…)` and `refusal(conversation)`, why it has no form for one.
"""
