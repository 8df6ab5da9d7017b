"""What holds for all tests: how fast a machine is decides no test."""

from hypothesis import HealthCheck, settings

settings.register_profile("requant", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("requant")
