# Datasets: read, verified and prepared once, on the machine that runs Snakemake, which may have a network.


localrules:
    prepare_data,


rule prepare_data:
    output:
        # Not removed before the job starts, since the Snakemake of another study may be about to read them.
        arrays=update(f"{RESULTS}/data/{{dataset}}/data.safetensors"),
        manifest=update(MANIFEST),
    log:
        f"{LOGS}/prepare_data/{{dataset}}.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=60,
    message:
        "Prepare {wildcards.dataset}"
    shell:
        # Show the command that downloads missing data in the terminal, not only in a log.
        "rdp data prepare {wildcards.dataset} > {log:q} 2>&1 || {{ cat {log:q} >&2; exit 2; }}"
