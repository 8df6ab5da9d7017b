"""Where bytes lie: this disk, the Hub, ModelScope, the package index, plain HTTP; how they are read and fetched.

The clients of the hubs are imported only where a hub is named. Everybody from ``toolchain`` upwards may enter.
"""

__all__ = [
    "addresses",
    "data_sets",
    "destinations",
    "downloads",
    "hub",
    "modelscope",
    "pace",
    "packages",
    "pages",
    "place",
    "remote",
    "repository",
    "retry",
]
