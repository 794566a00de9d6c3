"""Plain fine-tuning: the baseline."""

from __future__ import annotations

from typing import ClassVar

from forgetless.core.method import Method


class Plain(Method):
    r"""Plain fine-tuning: :math:`\theta \leftarrow \theta - \eta\,u`, whatever the optimizer's step :math:`u` is.

    The baseline that every other method is measured against. At a low learning rate it is a strong one.

    Examples:
        >>> Plain().state_dict()
        {}
    """

    summary: ClassVar[str] = "plain fine-tuning; the baseline to beat, strongest at a low learning rate"
    source: ClassVar[str] = "the optimizer's own"
