"""Forward one attempt to one upstream: headers, transport, timeouts, cancellation."""
