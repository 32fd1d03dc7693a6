"""SpanRelay: OpenTelemetry-native instrumentation for AI agents."""
