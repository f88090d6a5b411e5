"""One chat completion on its way: attempts in the order decided, delivery to the caller, what its span says."""
