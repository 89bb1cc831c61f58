"""How each kind of receiver is spoken to. One module a protocol; none of them retries: the outbox does."""
