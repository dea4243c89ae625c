# Recorded results in place of training, data and measurements: an archive, verified and unpacked.


rule unpack_recorded:
    input:
        archive=os.path.relpath(ARCHIVE.path),
    output:
        # Not removed before the job starts: it says that what lies there may be replaced.
        update(RECEIPTS[0]),
        PLAN.file,
        DATA,
        PROBES,
        [SPEED] if PLAN.study.speed_rounds else [],
    log:
        f"{LOGS}/{PLAN.name}/unpack_recorded.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=module_digest("rdp.archive.unpack"),
    message:
        "Unpack the recorded results"
    shell:
        'rdp unpack {input.archive:q} --recorded --to "$RDP_RESULTS" > {log:q} 2>&1'
