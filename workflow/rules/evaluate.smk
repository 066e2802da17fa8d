# in:   features, or encoder and data, as the evaluation's task needs
# how:  a job; where the profile names a cluster file for them, trainings that ranks can share are submitted by submitit
# out:  results/evals/{run}/seed{seed}/{evaluation}.json, gathered from {evaluation}.parts/ where there are parts


def evaluation_inputs(wildcards):
    evaluation = PARAMS.pick("evals", wildcards.evaluation)
    dataset = evaluation.dataset
    if PARAMS.evaluation(wildcards.evaluation).needs == "features":
        return [LAYOUT.features(wildcards.run, wildcards.seed, dataset)]
    return [
        LAYOUT.encoder(wildcards.run, wildcards.seed),
        LAYOUT.canonical(dataset),
        LAYOUT.patches(
            evaluation.patches or PARAMS.pick("runs", wildcards.run).patches, dataset
        ),
    ]


def evaluation_parts(wildcards):
    """The parts of an evaluation that consists of several trainings."""
    return [
        LAYOUT.part(wildcards.run, wildcards.seed, wildcards.evaluation, number)
        for number in range(PARAMS.evaluation(wildcards.evaluation).folds)
    ]


def evaluation_gpu(wildcards):
    """A GPU for what trains; gathering parts needs none."""
    trains = PARAMS.evaluation(wildcards.evaluation).needs == "encoder"
    return GPUS * (trains and not PARAMS.evaluation(wildcards.evaluation).folds)


LAUNCHED = [name for name in PARAMS.evals if TUNING_CLUSTER and PARAMS.evaluation(name).shareable]


ruleorder: evaluate_launched > evaluate


rule evaluate_launched:
    """Train {wildcards.run} on, seed {wildcards.seed}, on several ranks, for {wildcards.evaluation}."""
    input:
        evaluation_inputs,
        evaluation_parts,
    output:
        result=LAYOUT.evaluation("{run}", "{seed}", "{evaluation}"),
    wildcard_constraints:
        evaluation="|".join(LAUNCHED) or "(?!)",
    retries: 0
    threads: 1
    resources:
        launch=f" --cluster {TUNING_CLUSTER}",  # here, so that both rules have one command: a finding stays fresh
    params:
        entry=lambda wildcards: entry("evals", wildcards.evaluation),
    shell:
        "{JEPA3D} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation} --seed {wildcards.seed}"
        "{resources.launch}"


rule evaluate_part:
    """Part {wildcards.part} of {wildcards.evaluation} of {wildcards.run}, seed {wildcards.seed}."""
    input:
        evaluation_inputs,
    output:
        result=LAYOUT.part("{run}", "{seed}", "{evaluation}", "{part}"),
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=GPUS,
    params:
        entry=lambda wildcards: entry("evals", wildcards.evaluation),
    shell:
        "{JEPA3D} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation} --seed {wildcards.seed}"
        " --part {wildcards.part}"


rule evaluate:
    """Score {wildcards.run}, seed {wildcards.seed}, by {wildcards.evaluation}."""
    input:
        evaluation_inputs,
        evaluation_parts,
    output:
        result=LAYOUT.evaluation("{run}", "{seed}", "{evaluation}"),
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=evaluation_gpu,
        launch="",
    params:
        entry=lambda wildcards: entry("evals", wildcards.evaluation),
    shell:
        "{JEPA3D} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation} --seed {wildcards.seed}"
        "{resources.launch}"


rule all_evaluate:
    input:
        study_evaluations(),
