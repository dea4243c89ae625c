# The report: one page, from tables and figures alone.


rule write_report:
    input:
        study=PLAN.file,
        templates=TEMPLATES,
        records=rules.collect_records.output,
        figures=[f"{HOME}/figures/{figure}.svg" for figure in FIGURES],
    output:
        page=f"{HOME}/report/index.html",
        tables=multiext(f"{HOME}/tables/", "accuracy.csv", "comparisons.csv", "cost.csv", "efficiency.csv"),
    log:
        f"{LOGS}/{PLAN.name}/write_report.log",
    benchmark:
        f"{LOGS}/{PLAN.name}/write_report.tsv"
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("rdp.report.page"),
    shell:
        'rdp report "$RDP_STUDY" --only-page > {log:q} 2>&1'
