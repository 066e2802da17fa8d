# in:   results/canonical/{dataset}.h5
# out:  results/patches/{scheme}/{dataset}.h5: FPS and KNN indices, of all {dataset}.shards/ where there are any


rule patchify_shard:
    """Cache shard {wildcards.shard} of the {wildcards.scheme} patches of {wildcards.dataset}."""
    input:
        reads("patchify"),
    output:
        writes("patchify", "{scheme}", "{dataset}", "{shard}"),
    log:
        LAYOUT.log("patchify", "{scheme}", "{dataset}", "{shard}"),
    benchmark:
        LAYOUT.benchmark("patchify", "{scheme}", "{dataset}", "{shard}")
    threads: 8
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        settings=settings("patchify"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} patchify {wildcards.scheme} {wildcards.dataset}"
        " --shard {wildcards.shard}"


rule patchify:
    """Cache the {wildcards.scheme} patches of {wildcards.dataset}."""
    input:
        reads("patchify"),
    output:
        writes("patchify", "{scheme}", "{dataset}"),
    log:
        LAYOUT.log("patchify", "{scheme}", "{dataset}"),
    benchmark:
        LAYOUT.benchmark("patchify", "{scheme}", "{dataset}")
    threads: 8
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        settings=settings("patchify"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} patchify {wildcards.scheme} {wildcards.dataset}"


rule all_patchify:
    input:
        every("patchify"),
