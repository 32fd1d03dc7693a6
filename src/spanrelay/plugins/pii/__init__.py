"""Redaction of personal data and credentials in JSON values.

Pure: no I/O, no spans. A value that is given is never modified, and nothing here can take more than linear time.
"""

from spanrelay.plugins.pii.detectors import DETECTORS
from spanrelay.plugins.pii.redaction import Redactor
from spanrelay.plugins.pii.rules import Action, Problem, Rule, problems

__all__ = ["DETECTORS", "Action", "Problem", "Redactor", "Rule", "problems"]
