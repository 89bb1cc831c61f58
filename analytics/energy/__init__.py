"""Energy and carbon: measured joules of GPUs, split among teams as money is."""
