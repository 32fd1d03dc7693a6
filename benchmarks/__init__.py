"""What recording costs, as ratios to a bare OpenTelemetry span measured in the same minutes.

`measure`, `floor` and `workload` import nothing of SpanRelay: the peers' environments run them too.
"""
