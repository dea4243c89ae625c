# Records to tables and figures.


rule collect_records:
    input:
        study=PLAN.file,
        receipts=RECEIPTS,
    output:
        # Not removed before the job starts, since collecting continues from them.
        records=update(f"{HOME}/records.parquet"),
        history=update(f"{HOME}/history.parquet"),
        sweep=update(f"{HOME}/sweep.parquet"),
    log:
        f"{LOGS}/{PLAN.name}/collect_records.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=module_digest("rdp.tables.collect"),
    message:
        f"Collect the records of {PLAN.name}"
    shell:
        'rdp collect "$RDP_STUDY" > {log:q} 2>&1'


rule decide_claims:
    input:
        CLAIMS,
        rules.collect_records.output,
        PROBES,
        SPEED if PLAN.study.speed_rounds else [],
        DATA,
    output:
        report(
            f"{HOME}/claims.json",
            caption="../../report/verdicts.rst",
            category="Claims",
            labels={"what": "verdicts and evidence", "as": "JSON"},
        ),
    log:
        f"{LOGS}/{PLAN.name}/decide_claims.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code="".join(map(module_digest, ("rdp.claims.verdict_json", *metrics.modules()))),
    message:
        "Decide the claims"
    shell:
        'rdp claims "$RDP_STUDY" --from-tables > {log:q} 2>&1'


# Figures from the same tables share a job, since most of its time is its start.
for source, figures in FIGURES.items():

    rule:
        name:
            f"plot_{source}"
        input:
            tables=rules.collect_records.output,
            probe=[f"{HOME}/probes/{source}.parquet"] if source in PLAN.study.probes else [],
            speed=SPEED if source == "speed" else [],
        output:
            [
                report(
                    f"{HOME}/figures/{figure}.{kind}",
                    caption=os.path.abspath(f"{HOME}/figures/{figure}.rst"),
                    category=category,
                    labels={"figure": contents.caption(figure)["title"], "study": PLAN.name},
                )
                for figure in figures
                for kind, category in {"svg": "Figures", "csv": "Data behind the figures"}.items()
            ],
            [multiext(f"{HOME}/figures/{figure}", ".pdf", ".png", ".rst") for figure in figures],
        log:
            f"{LOGS}/{PLAN.name}/plot_{source}.log",
        conda:
            "../../envs/rdp.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            code="".join(map(module_digest, ("rdp.report.figures", *plots.modules()))),
            figures=figures,  # the shell line is formatted after this loop has ended
            captions=[contents.caption(figure)["caption"] for figure in figures],
        message:
            f"Draw the figures of {source}"
        shell:
            'rdp plot "$RDP_STUDY" {params.figures:q} > {log:q} 2>&1'
