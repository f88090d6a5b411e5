"""Spans for tracing dashboards: names as constants, attributes as pure functions, a recorder that never raises."""
