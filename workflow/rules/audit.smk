# The audit: not part of `all`, and made anew whenever it is asked for. It has no output that Snakemake would delete
# where something is found: the page that names it is what is wanted then.


rule audit:
    input:
        f"{HOME}/report/index.html",
    log:
        f"{LOGS}/{PLAN.name}/audit.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=240,
        gpu=lambda wildcards: gpus_of_run(wildcards) if RETRAIN else 0,
    params:
        retrain=RETRAIN,
    shell:
        # What was found must not have to be looked for in a log.
        'rdp audit "$RDP_STUDY" --retrain {params.retrain:q} > {log:q} 2>&1 || {{ cat {log:q} >&2; exit 1; }}'
