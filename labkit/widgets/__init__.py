"""What you touch: views of replies and machines. Each shows text and a picture where there is no front end."""

from __future__ import annotations

from labkit.widgets.timeline import Timeline

__all__ = ["Timeline"]
