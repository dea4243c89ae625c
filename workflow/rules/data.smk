# Datasets: read, verified and kept once, on the machine that runs Snakemake, which may have a network.


localrules:
    prepare_data,


rule prepare_data:
    output:
        # Not removed before the job starts: another study's snakemake may be about to read them.
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
    shell:
        # Which command gets absent data must not be found out from a log.
        "rdp data prepare {wildcards.dataset} > {log:q} 2>&1 || {{ cat {log:q} >&2; exit 2; }}"
