"""Rules, a pure state machine, a durable outbox and the notifiers that page people."""
