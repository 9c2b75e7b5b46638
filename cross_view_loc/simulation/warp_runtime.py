"""The one place that imports NVIDIA Warp, so that its absence is explained once and well."""

from cross_view_loc.errors import MissingInputError

try:
    import warp as wp
except ImportError as error:
    raise MissingInputError(
        "Rendering the town needs NVIDIA Warp, which is not installed: pip install cross_view_loc[sim]."
    ) from error

# Standard output belongs to the commands (--json); Warp would print its devices and modules there.
wp.config.log_level = wp.LOG_ERROR

# Kernels are never differentiated; without adjoints they compile in half the time.
MODULE_OPTIONS = {"fast_math": True, "enable_backward": False}

__all__ = ["MODULE_OPTIONS", "wp"]
