"""In-app mode below ASGI: the route of one request, and the client that sends a handler's call along it."""
