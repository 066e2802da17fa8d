# in:   features, or encoder and data, as the evaluation's task needs
# how:  a job; where the profile names a cluster file for them, trainings that ranks can share are submitted by submitit
# out:  results/evals/{run}/seed{seed}/{evaluation}.json, gathered from {evaluation}.folds/ where there are folds


LAUNCHED = [
    name
    for name in PARAMS.evals
    if TUNING_CLUSTER and PARAMS.evaluation(name).shareable
]


# Those that run the encoder themselves: they train it on, or show it other shapes. Gathering folds does not.
ON_ENCODER = [
    name
    for name in PARAMS.evals
    if PARAMS.evaluation(name).needs == "encoder" and not PARAMS.evaluation(name).folds
]


ruleorder: evaluate_launched > evaluate_encoder > evaluate


rule evaluate_launched:
    """Train {wildcards.run} on, seed {wildcards.seed}, on several ranks, for {wildcards.evaluation}."""
    input:
        reads("evaluate"),
    output:
        writes("evaluate", "{run}", "{seed}", "{evaluation}"),
    log:
        LAYOUT.log("evaluate", "{run}", "{seed}", "{evaluation}"),
    benchmark:
        LAYOUT.benchmark("evaluate", "{run}", "{seed}", "{evaluation}")
    wildcard_constraints:
        evaluation="|".join(LAUNCHED) or "(?!)",
    retries: 0
    threads: 1
    resources:
        launch=f" --cluster {shlex.quote(TUNING_CLUSTER)}",  # here, so that both rules have one command: a finding stays fresh
    params:
        settings=settings("evaluate"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation}"
        " --seed {wildcards.seed}{resources.launch}"


rule evaluate_fold:
    """Fold {wildcards.fold} of {wildcards.evaluation} of {wildcards.run}, seed {wildcards.seed}."""
    input:
        reads("evaluate"),
    output:
        writes("evaluate", "{run}", "{seed}", "{evaluation}", "{fold}"),
    log:
        LAYOUT.log("evaluate", "{run}", "{seed}", "{evaluation}", "{fold}"),
    benchmark:
        LAYOUT.benchmark("evaluate", "{run}", "{seed}", "{evaluation}", "{fold}")
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(480),
        gpu=GPUS,
    params:
        settings=settings("evaluate"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation}"
        " --seed {wildcards.seed} --fold {wildcards.fold}"


rule evaluate_encoder:
    """Run the encoder of {wildcards.run}, seed {wildcards.seed}, for {wildcards.evaluation}."""
    input:
        reads("evaluate"),
    output:
        writes("evaluate", "{run}", "{seed}", "{evaluation}"),
    log:
        LAYOUT.log("evaluate", "{run}", "{seed}", "{evaluation}"),
    benchmark:
        LAYOUT.benchmark("evaluate", "{run}", "{seed}", "{evaluation}")
    wildcard_constraints:
        evaluation="|".join(ON_ENCODER) or "(?!)",
    threads: 1
    resources:
        mem_mb=more(12000),
        runtime=more(1440),
        gpu=GPUS,
        launch="",
    params:
        settings=settings("evaluate"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation}"
        " --seed {wildcards.seed}{resources.launch}"


rule evaluate:
    """Score {wildcards.run}, seed {wildcards.seed}, by {wildcards.evaluation}."""
    input:
        reads("evaluate"),
    output:
        writes("evaluate", "{run}", "{seed}", "{evaluation}"),
    log:
        LAYOUT.log("evaluate", "{run}", "{seed}", "{evaluation}"),
    benchmark:
        LAYOUT.benchmark("evaluate", "{run}", "{seed}", "{evaluation}")
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        launch="",
    params:
        settings=settings("evaluate"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation}"
        " --seed {wildcards.seed}{resources.launch}"


rule all_evaluate:
    input:
        every("evaluate"),
