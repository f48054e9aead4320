"""Every error labkit raises on purpose, in one tree.

    LabkitError
    ├── ModelNotFound        no such model, variant or file
    ├── ModelFileInvalid     the file is not what it claims to be
    ├── TemplateRejected     a chat template that breaks its time or size limit, or reaches outside the sandbox
    ├── NotEnoughMemory      the model does not fit this machine
    ├── DownloadFailed       a pull that did not complete
    ├── StorageFailed        disk full, read-only, or locked
    ├── OptionInvalid        a value out of range
    ├── ContextOverflow      prompt longer than the context
    ├── EngineUnavailable    not installed, not supported here, or not answering
    ├── EngineTimeout        no answer in time
    ├── EngineFailed         the engine broke while working
    ├── ToolDenied           a tool that may not do what it was asked to
    ├── AnswerInvalid        a model's answer that does not fit what was asked for
    ├── TrainingFailed       a training run that cannot go on
    └── NotebookFailed       a lab that did not run to its end

A message has two parts: what failed with the value seen, and what to type next.
"""

from __future__ import annotations

from typing import Self


class LabkitError(Exception):
    """Say what failed and what to do about it.

    `what` names the failure and the value seen; `fix` is the command or line that mends it.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(f"{what}\n  → {fix}" if fix else what)
        self.what = what
        self.fix = fix

    def _render_traceback_(self) -> list[str]:
        """Show a student the message instead of a stack of frames (IPython's own hook)."""
        return [f"{type(self).__name__}: {self}"]


class ModelNotFound(LabkitError):
    """No model, variant or file of that name."""


class ModelFileInvalid(LabkitError):
    """A model file that is damaged, truncated, or something else altogether."""


class TemplateRejected(LabkitError):
    """A chat template that left the sandbox, or ran past its time or size limit."""


class NotEnoughMemory(LabkitError):
    """The model and its context do not fit in the memory that is free."""


class DownloadFailed(LabkitError):
    """A download that could not be started, finished or verified."""


class StorageFailed(LabkitError):
    """A file that could not be written: no space, read-only, or locked by another process."""


class OptionInvalid(LabkitError):
    """An option whose value makes no sense."""

    @classmethod
    def of(cls, name: str, value: object, want: str) -> Self:
        """Return the error for a value that `name` cannot have; `want` says what it can be."""
        return cls(f"{name} cannot be {value!r:.60}", fix=want)


class ContextOverflow(LabkitError):
    """A prompt that is longer than the model's context."""


class EngineUnavailable(LabkitError):
    """An engine that is not installed, or does not run on this machine."""


class EngineTimeout(LabkitError):
    """An engine that did not answer in time."""


class EngineFailed(LabkitError):
    """An engine that broke while it was working, or was used after `close()`."""


class ToolDenied(LabkitError):
    """A tool that tried what it has no permission for, or that cannot be run safely here."""


class AnswerInvalid(LabkitError):
    """A model's answer that does not fit the form that was asked for."""


class TrainingFailed(LabkitError):
    """A training run that cannot go on: no data, a loss or a reward that is no number, a damaged checkpoint."""


class NotebookFailed(LabkitError):
    """A notebook whose run, background thread or check failed."""
