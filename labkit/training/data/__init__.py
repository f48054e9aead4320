"""Training data of nano: endless, seeded, from open distributions.

`world` reads the tables, `draw` draws words and values, `tools` and `asking` make tools and requests, `phrasing`
the manners around them, the modules named `…_skills` whole conversations, and `dialect` rewrites tool schemas.
`making` picks a skill for an example, `teaching` puts examples together to lessons.
"""

from .draw import Level
from .making import LEVELS, SKILLS, Example, example, examples, skills
from .memory_skills import UNTOLD
from .teaching import EMPHASIS, Course, lessons
from .text_skills import SILENT
from .tool_skills import NO_TOOL
from .world import EXAMINED, TRAINING, World

# What nano says where it finds nothing.
SILENCES = (NO_TOOL, SILENT, UNTOLD["content"])

__all__ = [
    "EMPHASIS",
    "EXAMINED",
    "LEVELS",
    "SILENCES",
    "SKILLS",
    "TRAINING",
    "Course",
    "Example",
    "Level",
    "World",
    "example",
    "examples",
    "lessons",
    "skills",
]
