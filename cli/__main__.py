"""`python -m fleetlog.cli`: the same as `fleetlog`."""

from fleetlog.cli.main import main

if __name__ == "__main__":
    main()
