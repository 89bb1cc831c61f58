"""The commands of `fleetmeter cost`, one small file each; group.py lists them."""
