"""What runs in the environment of upstream's converter, where there is nothing of requant but this."""

__all__ = []
