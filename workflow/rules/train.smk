# Training: one job per cell, or several if the study splits its seeds. The only declared output of a run is its
# receipt: Snakemake deletes declared outputs before it starts a job, which records and checkpoints must survive. If the
# study has a sweep, one job per cell first trains the runs of its sweep, which are ordinary runs. A job with
# more threads than a run uses (--set-threads train_cell=8) trains several runs in parallel.


rule tune_cell:
    input:
        data_of_cell,
    output:
        f"{RESULTS}/store/{{cell}}/tuned.json",
    log:
        f"{LOGS}/tune_cell/{{cell}}.log",
    priority: longest_first(sweep_runs, runs_of(PLAN.study.seed_list()))
    conda:
        "../../envs/rdp.yaml"
    threads: PLAN.study.threads * PLAN.study.processes
    resources:
        mem_mb=memory_for(sweep_runs),
        runtime=time_for(sweep_runs),
        gpu=gpus_of_run,
    params:
        code=code_of_cell,
    message:
        "Choose the learning rate of {wildcards.cell}"
    shell:
        'rdp tune "$RDP_STUDY" {wildcards.cell} --cores {threads} --gpus {resources.gpu} > {log:q} 2>&1'


for number, seeds in enumerate(PLAN.seed_batches()):

    rule:
        name:
            "train_cell" if number == 0 else f"train_cell_{number}"
        input:
            data_of_cell,
            sweep_of_cell,
        output:
            receipts(seeds),
        log:
            f"{LOGS}/train_cell/{{cell}}-{number}.log",
        priority: longest_first(runs_of(seeds))
        conda:
            "../../envs/rdp.yaml"
        threads: PLAN.study.threads * PLAN.study.processes
        resources:
            mem_mb=memory_for(runs_of(seeds)),
            runtime=time_for(runs_of(seeds)),
            gpu=gpus_of_run,
        params:
            code=code_of_cell,
        message:
            "Train {wildcards.cell}"
        shell:
            'rdp train "$RDP_STUDY" {output:q} --cores {threads} --gpus {resources.gpu} > {log:q} 2>&1'
