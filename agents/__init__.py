"""Agent daemons: a supervisor, its worker processes, and executors that run attempts in them."""
