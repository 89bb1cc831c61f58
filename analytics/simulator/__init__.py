"""The fleet simulator: seeded, request by request, with the ground truth of what each request used."""
