"""The finished miniature study, for commands that speak of one."""

from tests.workflow.conftest import finished, project  # noqa: F401 (fixtures)
