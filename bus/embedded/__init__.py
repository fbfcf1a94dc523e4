"""The nats-server that fleetlog runs itself: its binary, its folder, its life, and how others find it."""
