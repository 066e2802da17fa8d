# in:   canonical clouds, patches, and a trained encoder
# out:  results/features/{run}/seed{seed}/{dataset}.h5


rule embed:
    """Features of {wildcards.dataset} by {wildcards.run}, seed {wildcards.seed}."""
    input:
        reads("embed"),
    output:
        writes("embed", "{run}", "{seed}", "{dataset}"),
    log:
        LAYOUT.log("embed", "{run}", "{seed}", "{dataset}"),
    benchmark:
        LAYOUT.benchmark("embed", "{run}", "{seed}", "{dataset}")
    threads: 1
    resources:
        mem_mb=more(12000),  # execution.memory_gb and the encoder
        runtime=more(120),
        gpu=GPUS,
    params:
        settings=settings("embed"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} embed {wildcards.run} {wildcards.dataset} --seed {wildcards.seed}"


rule all_embed:
    input:
        every("embed"),
