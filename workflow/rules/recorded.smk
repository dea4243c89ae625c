# Recorded results in place of training, of data and of measurements: a bundle, verified and unpacked.


rule unpack_recorded:
    input:
        [os.path.relpath(BUNDLE.folder / name) for name in (bundle.MANIFEST, *BUNDLE.files)],
    output:
        # Not removed before the job starts: it says that what lies there may be replaced.
        update(RECEIPTS[0]),
        DATA,
        PROBES,
        [SPEED] if PLAN.study.speed_rounds else [],
    log:
        f"{LOGS}/{PLAN.name}/unpack_recorded.log",
    benchmark:
        f"{LOGS}/{PLAN.name}/unpack_recorded.tsv"
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=module_digest("rdp.archive.unpacking"),
    shell:
        'rdp unpack "$RDP_STUDY" --to "$RDP_RESULTS" > {log:q} 2>&1'
