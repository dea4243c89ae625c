# The workflow: study -> runs -> records -> tables, figures -> report. Each rule runs one `rdp` command.
#
#   snakemake --cores all                                     the quick study, on this machine
#   snakemake --cores all --config study=NAME                 another one from config/studies/
#   snakemake --cores all --profile slurm --config study=NAME on a cluster, see profiles/slurm/config.yaml
#   snakemake --cores all audit --config study=NAME           check its results; retrain=N: and train N runs again
#   snakemake --cores all --config study=NAME records=recorded from results/recorded/NAME.tar, with nothing to train
#   snakemake --cores all crate --config study=NAME           the study with its report, packed as a research object

from snakemake.utils import min_version

min_version("9.27")


container: "envs/rdp.sif"


include: "workflow/rules/common.smk"


if ARCHIVE:

    include: "workflow/rules/recorded.smk"

else:

    include: "workflow/rules/data.smk"
    include: "workflow/rules/train.smk"
    include: "workflow/rules/measure.smk"


include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/provenance.smk"
include: "workflow/rules/audit.smk"


localrules:
    all,
    crate,


rule all:
    default_target: True
    input:
        f"{HOME}/report/index.html",
        # Named here too: an absent input of a target that is up to date would not be made again.
        RECEIPTS,


rule crate:
    input:
        rules.write_crate.output,
        RECEIPTS,
