"""One module per grid service: a read and a pure parse."""
