"""Our own HTTP/1.1 client: one protocol object per connection on asyncio, `httptools` for the parsing, a pool above."""
