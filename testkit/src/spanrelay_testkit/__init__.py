"""What SpanRelay's own tests share; never published."""
