"""What is said: ids, subjects, task specs and events, with nothing but msgspec behind them."""
