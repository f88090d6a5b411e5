"""What we know of each upstream: breaker, saturation, latency, models."""
