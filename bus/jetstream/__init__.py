"""The seams of `bus`, on a real NATS server with JetStream."""
