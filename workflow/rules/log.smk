# What a person sees. On a terminal, the rich logger of profiles/default shows bars. In a file, each job is a line.
import logging
import time

from rich.progress import TimeRemainingColumn
from snakemake.logging import logger


class JobLines(logging.Handler):
    """Writes a line for each job that ends: how many of all jobs, its message, and how long it took."""

    def __init__(self):
        super().__init__()
        self.started, self.ended, self.jobs = {}, 0, 0

    def emit(self, record):
        event = getattr(getattr(record, "event", None), "value", "")
        if event == "run_info":
            self.jobs = max(self.jobs, record.stats["total"])
        elif event == "job_info":
            self.started[record.jobid] = record.rule_msg or record.rule_name, time.monotonic()
        elif event == "job_finished" and record.job_id in self.started:
            message, start = self.started[record.job_id]
            self.ended += 1
            print(
                f"{self.ended} of {self.jobs}: {message} ({time.monotonic() - start:.0f} s)",
                file=sys.stderr,
                flush=True,
            )


if sys.stderr.isatty():
    for handler in workflow.logger_manager.plugin_handlers:
        if bars := getattr(handler, "progress", None):
            bars.columns = (*bars.columns, TimeRemainingColumn())
            bars.speed_estimate_period = 600  # seconds, so that it holds several jobs
else:
    logger.addHandler(JobLines())
