"""What both fronts need of ASGI: the door, the body that comes in, the messages that go out."""
