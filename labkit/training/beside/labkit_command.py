"""What Agent Lightning's controller starts for a rollout, in its own Python: the agent's command, in the owner's.

The agent finds the gateway where OpenAI's client looks for it. Nothing of labkit is imported here.
"""

import json
import os
import subprocess


class Command:
    """Run the command in LABKIT_COMMAND; an exit code other than 0 fails the rollout."""

    def run(self) -> None:
        """Start it, and wait."""
        env = {**os.environ, **json.loads(os.environ["LABKIT_ENV"])}
        env |= {"OPENAI_BASE_URL": env["AGL_OPENAI_BASE_URL"], "OPENAI_API_KEY": env["AGL_KEY"]}
        subprocess.run(json.loads(env["LABKIT_COMMAND"]), env=env, check=True)
