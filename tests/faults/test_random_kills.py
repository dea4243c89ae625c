"""Killed a hundred times at random moments, training ends in the numbers of an uninterrupted run."""

import itertools
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.conftest import STAGES, STUDY, Job

METHODS = ("vanilla", "droppath", "residual_droppath", "pnnh", "adamw")
KILLS = 100
AT_ONE_RUN = 40  # more kills than one run needs to be done, if each attempt takes it further


@pytest.mark.slow
def test_a_hundred_kills_change_no_bit(make_job: Callable[..., Job]) -> None:
    chance, landed = random.Random(0), Counter()
    undisturbed, seconds = {}, {}
    for method in METHODS:
        job = make_job(f"undisturbed-{method}", STUDY, method)
        attempt = job.attempt()
        assert attempt.code == 0, attempt.log
        undisturbed[method] = job.digests
        seconds[method] = {stage: attempt.seconds(stage) for stage in STAGES}
    assert len({digest for digests in undisturbed.values() for digest in digests.values()}) == len(METHODS)

    for number, method in enumerate(itertools.cycle(METHODS)):
        if landed.total() >= KILLS:
            break
        job = make_job(f"{method}-{number}", STUDY, method)
        for _ in range(AT_ONE_RUN):
            stage = chance.choice(STAGES)
            # How often it is come to differs with how far the attempts before came.
            moment = (stage, chance.randint(1, 4) if stage == "checkpoint" else 1)
            attempt = job.attempt(stage=moment, after=chance.uniform(0, seconds[method][stage]))
            if attempt.code == 0:
                break
            assert attempt.code == -signal.SIGKILL, attempt.log
            landed[attempt.stages[-1]] += 1
        else:
            raise AssertionError(f"{method}: not done after {AT_ONE_RUN} kills:\n{attempt.log}")
        assert job.digests == undisturbed[method]
        assert job.left_behind == []
        assert "damaged" not in attempt.log

    assert all(landed[stage] for stage in STAGES), landed
    before, after = (sum(landed[stage] for stage in part) for part in (STAGES[:3], STAGES[4:]))
    assert before > KILLS / 5, landed
    assert after > KILLS / 5, landed


@pytest.mark.slow
def test_a_fork_computes_the_numbers_of_a_separate_process(make_job: Callable[..., Job]) -> None:
    """What holds of forks would be worth little if they were not what `rdp train` is."""
    forked, alone = make_job("forked", STUDY, "residual_droppath"), make_job("alone", STUDY, "residual_droppath")
    assert forked.attempt().code == 0
    alone.folder.mkdir()
    command = [sys.executable, "-m", "rdp.cli", "train", str(alone.study), "resnet20/digits/residual_droppath"]
    subprocess.run(command, cwd=alone.folder, check=True, timeout=300)
    assert forked.digests == alone.digests
