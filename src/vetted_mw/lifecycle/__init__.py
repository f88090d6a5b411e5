"""What lives from opening to closing: rooms of one configuration, requests in flight, reload, the end of all of it."""
