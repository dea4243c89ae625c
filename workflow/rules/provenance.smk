# Where the products came from: `snakemake --cores all crate` packs them, with all that says so.


rule write_crate:
    input:
        rules.write_report.output,
        RECEIPTS,
        DATA,
        CLAIMS,
        # What is packed of the project beside the study's products.
        [os.path.relpath(path) for path in products.sources(PLAN).values()],
        PROBES,
        SPEED if PLAN.study.speed_rounds else [],
    output:
        # The folder is replaced as a whole; were it declared, Snakemake would leave a file of its own in it.
        f"{HOME}/crate/ro-crate-metadata.json",
    log:
        f"{LOGS}/{PLAN.name}/write_crate.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=module_digest("rdp.provenance.crate"),
    message:
        "Write the research object"
    shell:
        'rdp crate "$RDP_STUDY" > {log:q} 2>&1'
