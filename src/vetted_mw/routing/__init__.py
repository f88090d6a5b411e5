"""Where a request goes. Pure: no await, clock, environment or logging."""
