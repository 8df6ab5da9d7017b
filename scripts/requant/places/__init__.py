"""Where bytes lie: this disk, the Hub, ModelScope, the package index, plain HTTP; and trying again.

The clients of the hubs are imported only where a hub is named. Everybody from ``toolchain`` upwards may enter.
"""

__all__ = ["hub", "modelscope", "packages", "place", "remote", "retry"]
