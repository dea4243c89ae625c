# The report: page, paper and checklist, from tables, figures and verdicts.


report: "../../report/workflow.rst"


rule write_report:
    input:
        study=PLAN.file,
        templates=TEMPLATES,
        records=rules.collect_records.output,
        claims=rules.decide_claims.output,
        figures=[f"{HOME}/figures/{figure}.svg" for figure in contents.figures(PLAN)],
    output:
        page=report(
            f"{HOME}/report/index.html",
            caption="../../report/page.rst",
            category="Report",
            labels={"what": "page", "study": PLAN.name},
        ),
        paper=report(
            f"{HOME}/report/paper.pdf",
            caption="../../report/page.rst",
            category="Report",
            labels={"what": "paper", "study": PLAN.name},
        ),
        source=f"{HOME}/report/paper.typ",
        checklist=report(
            f"{HOME}/report/checklist.html",
            caption="../../report/checklist.rst",
            category="Report",
            labels={"what": "paper checklist", "study": PLAN.name},
        ),
        tables=[
            report(
                f"{HOME}/tables/{table}.csv",
                caption="../../report/table.rst",
                category="Tables",
                labels={"table": title, "study": PLAN.name},
            )
            for table, title in contents.TABLES.items()
        ],
        tex=[f"{HOME}/tables/{table}.tex" for table in contents.TABLES],
    log:
        f"{LOGS}/{PLAN.name}/write_report.log",
    conda:
        "../../envs/rdp.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code="".join(map(module_digest, ("rdp.report.page", "rdp.report.paper", "rdp.provenance.checklist"))) + TRAINING,
    message:
        "Write the report"
    shell:
        'rdp report "$RDP_STUDY" --from-tables > {log:q} 2>&1'
