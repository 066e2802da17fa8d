# in:   features, or encoder and data, as the evaluation's task needs
# out:  results/evals/{run}/seed{seed}/{evaluation}.json


def evaluation_inputs(wildcards):
    evaluation = PARAMS.pick("evals", wildcards.evaluation)
    dataset = evaluation.dataset
    if PARAMS.needs(wildcards.evaluation) == "features":
        return [LAYOUT.features(wildcards.run, wildcards.seed, dataset)]
    return [
        LAYOUT.encoder(wildcards.run, wildcards.seed),
        LAYOUT.canonical(dataset),
        LAYOUT.patches(
            evaluation.patches or PARAMS.pick("runs", wildcards.run).patches, dataset
        ),
    ]


rule evaluate:
    """Score {wildcards.run}, seed {wildcards.seed}, by {wildcards.evaluation}."""
    input:
        evaluation_inputs,
    output:
        result=LAYOUT.evaluation("{run}", "{seed}", "{evaluation}"),
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=lambda wildcards: GPUS * (PARAMS.needs(wildcards.evaluation) == "encoder"),
    params:
        entry=lambda wildcards: entry("evals", wildcards.evaluation),
    shell:
        "{JEPA3D} --threads {threads} evaluate {wildcards.run} {wildcards.evaluation} --seed {wildcards.seed}"


rule all_evaluate:
    input:
        study_evaluations(),
