"""The whole fleet in virtual time, from one seed: see `docs/reliability.md`."""
