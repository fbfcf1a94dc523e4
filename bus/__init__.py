"""How it is said: the log, queues, client, coordinator and the embedded server. Only here nats is imported."""
