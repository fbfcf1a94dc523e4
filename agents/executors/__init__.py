"""How attempts run: one module per executor, and what they share."""
