"""What the bill would have been: under other idle policies, prices, GPUs, purchases, placements and schedules."""
