"""fleetlog: run fleets of agents in parallel, with every step an event in one log."""
