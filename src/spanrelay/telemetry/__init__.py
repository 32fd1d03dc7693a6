"""How a span becomes attributes and figures, in front of the processors of the SDK's providers.

Observation fails open: nothing here may raise into the application or change what it sends.
"""
