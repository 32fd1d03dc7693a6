"""What is recorded and where it goes: the span processor, the projection of records, metrics, delivery.

Observation fails open: nothing here may raise into the application or change what it sends.
"""
