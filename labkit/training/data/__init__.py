"""Training data of nano: endless, seeded, from open distributions.

`world` reads the tables, `draw` draws words and values, `tools` and `asking` make tools and requests, `phrasing`
the manners around them, the modules named `…_skills` whole conversations, and `dialect` rewrites tool schemas.
`making` picks a skill for an example, `teaching` puts examples together to lessons.
"""

from .draw import Level
from .making import LEVELS, SKILLS, Example, example, examples, skills
from .teaching import EMPHASIS, Course, lessons
from .world import TRAINING, World

__all__ = [
    "EMPHASIS",
    "LEVELS",
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
