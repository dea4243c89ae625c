# The workflow: study -> runs -> records -> tables, figures -> report. Each rule runs one `rdp` command.
#
#   snakemake --cores all                                     the study `quick`, on this machine
#   snakemake --cores all --config study=NAME                 another one from config/studies/
#   snakemake --cores all --profile slurm --config study=NAME on a cluster, see profiles/slurm/config.yaml
#   snakemake --cores all audit --config study=NAME           audit its results; with retrain=N, retrain N runs
#   snakemake --cores all --config study=NAME records=recorded from results/recorded/NAME.tar, with nothing to train
#   snakemake --cores all crate --config study=NAME           the study with its report as an RO-Crate

from snakemake.utils import min_version

min_version("9.27")


container: "envs/rdp.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/log.smk"


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
        # Listed here too, since Snakemake does not recreate the missing inputs of a target that is up to date.
        RECEIPTS,


rule crate:
    input:
        rules.write_crate.output,
        RECEIPTS,
