# in:   canonical clouds, patches, and a trained encoder
# out:  results/features/{run}/seed{seed}/{dataset}.h5


rule embed:
    """Features of {wildcards.dataset} by {wildcards.run}, seed {wildcards.seed}."""
    input:
        encoder=rules.pretrain.output.encoder,
        canonical=rules.convert.output.canonical,
        patches=patches_of_run,
    output:
        features=LAYOUT.features("{run}", "{seed}", "{dataset}"),
    threads: 1
    resources:
        mem_mb=more(12000),  # execution.memory_gb and the encoder
        runtime=more(120),
        gpu=GPUS,
    shell:
        "{JEPA3D} --threads {threads} embed {wildcards.run} {wildcards.dataset} --seed {wildcards.seed}"


rule all_embed:
    input:
        study_features(),
