"""Answers to the checklist's questions about data, licences and people, as far as records can give them."""

from rdp.provenance.answer import NA, NO, UNPROVABLE, YES, Answer
from rdp.provenance.evidence import Evidence
from rdp.report.formatting import listed
from rdp.utils.humanize import count


def access(e: Evidence) -> Answer:
    """No where a dataset takes a permission; else whether the code is public is not in the records."""
    because = [f"{name} is fetched by no command. To get it: {how}." for name, how in e.by_hand.items()]
    because += [f"{name}: {how}." for name, how in e.at_hand.items()]
    because.append(
        f"The code is named by its commit ({listed(e.commits) if e.commits else 'not known'}) and licensed under "
        "Apache-2.0, and one command leads from it to the report; where it is published, the records do not say."
    )
    see = [*[f"data/{name}" for name in e.datasets], "lock", "study"]
    return Answer(NO if e.by_hand else UNPROVABLE, because, see)


def ethics(e: Evidence) -> Answer:
    return Answer(UNPROVABLE, ["Records tell of networks and numbers, not of conduct. To be answered by the authors."])


def impacts(e: Evidence) -> Answer:
    because = "Records say nothing of effects outside of the study. To be answered by the authors."
    return Answer(UNPROVABLE, [because])


def safeguards(e: Evidence) -> Answer:
    networks = sorted({cell.architecture for cell in e.plan.cells})
    because = (
        f"What was trained are classifiers ({listed(networks)}) on {listed([*e.datasets])}; whether their weights are "
        "released, and to whom, the records do not say. The research object holds no weights."
    )
    return Answer(UNPROVABLE, [because], ["report/index.html#run-with"])


def licences(e: Evidence) -> Answer:
    """Yes where the terms of every dataset are known."""
    unknown = e.without_licence()
    because = [f"The terms of {listed(unknown)} are not known."] if unknown else []
    because += [f"{name}: {info.licence or 'licence unknown'}; {info.origin}." for name, info in e.datasets.items()]
    because.append("Packages are named with versions and checksums in the lock; their licences are not in the records.")
    see = [*[f"data/{name}" for name in e.datasets], "report/index.html#run-with", "lock"]
    return Answer(NO if unknown else YES, because, see)


def assets(e: Evidence) -> Answer:
    """Yes where there are records: they document themselves."""
    see = ["records.parquet", "report/index.html", "study"]
    if e.done.empty:
        return Answer(NA, ["Nothing was trained yet."], see)
    return Answer(
        YES,
        [
            f"New are {count(len(e.done), 'record')} and what is made from them: each names its specification, data, "
            "code and machine, and the page tells how they were made. The licence of the project is Apache-2.0.",
            "`rdp crate` packs them with their description; networks stay where they were trained.",
        ],
        see,
    )


def people(e: Evidence) -> Answer:
    because = (
        f"The study took its examples from {listed([*e.datasets])}, and asked nobody anything. How these datasets were "
        "made, and whether people took part beside the study, the records do not say."
    )
    return Answer(UNPROVABLE, [because], [f"data/{name}" for name in e.datasets])


def approval(e: Evidence) -> Answer:
    return Answer(
        UNPROVABLE, ["No approval is in the records, nor that none was needed. To be answered by the authors."]
    )


def language_models(e: Evidence) -> Answer:
    networks = sorted({cell.architecture for cell in e.plan.cells})
    because = (
        f"Networks of the study are {listed(networks)}: none is a language model, and none is asked for anything. What "
        "helped to write the code or the paper, the records do not say."
    )
    return Answer(UNPROVABLE, [because], ["study"])
