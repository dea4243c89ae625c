# Measurements: probes on networks, and the throughput of methods.


rule measure_probe:
    input:
        f"{HOME}/records.parquet",
    output:
        f"{HOME}/probes/{{probe}}.parquet",
    log:
        f"{LOGS}/{PLAN.name}/measure_{{probe}}.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 4 * PLAN.study.threads
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        code=lambda wildcards: module_digest(f"rdp.probes.measures.{wildcards.probe}")
        + module_digest("rdp.tables.measurements"),
    message:
        "Measure {wildcards.probe}"
    shell:
        'rdp probe "$RDP_STUDY" {wildcards.probe} --cores {threads} > {log:q} 2>&1'


rule measure_speed:
    input:
        DATA,
        # Last and exclusive, since other jobs would share the caches.
        RECEIPTS,
    output:
        SPEED,
    log:
        f"{LOGS}/{PLAN.name}/measure_speed.log",
    conda:
        "../../envs/rdp.yaml"
    threads: workflow.resource_settings.cores or 1  # unknown to snakemake --report
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=gpus_of_job,
    params:
        code=module_digest("rdp.bench.throughput"),
    message:
        "Measure training throughput"
    shell:
        'rdp speed "$RDP_STUDY" --gpus {resources.gpu} > {log:q} 2>&1'
