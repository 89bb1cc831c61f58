"""Runs inside an inference engine or beside it: makes one span per request, and metrics under canonical names."""
