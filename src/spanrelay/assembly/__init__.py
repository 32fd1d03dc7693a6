"""Spans to transcript to document: what reassembles trajectories."""
