# The audit: not part of `all`, and repeated on every request. It declares no output, since Snakemake deletes the outputs
# of failed jobs, and the audit fails if it has findings, which its page lists.


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
    message:
        f"Audit {PLAN.name}"
    shell:
        # Show the findings, or the verdict and the page, in the terminal and not only in the log.
        'rdp audit "$RDP_STUDY" --retrain {params.retrain:q} > {log:q} 2>&1 || {{ cat {log:q} >&2; exit 1; }}; '
        "tail -n 1 {log:q} >&2"
