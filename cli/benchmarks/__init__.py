"""What `fleetlog bench` measures: each figure with a ratio to something real in the same run."""
