"""The OpenAI chat-completion wire format. Pure: bytes in, bytes out."""
