"""Properties say what must hold, not how fast: a busy machine makes no example a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("fleetmeter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleetmeter")
