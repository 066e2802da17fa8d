# in:   results/canonical/{dataset}.h5
# out:  results/patches/{scheme}/{dataset}.h5: FPS and KNN indices, of all {dataset}.parts/ where there are shards


def shards(wildcards):
    """The parts of a data set whose patches are made by several jobs."""
    count = PARAMS.dataset(wildcards.dataset).shards
    numbers = range(count if count > 1 else 0)
    return [LAYOUT.shard(wildcards.scheme, wildcards.dataset, n) for n in numbers]


rule patchify_part:
    """Cache part {wildcards.part} of the {wildcards.scheme} patches of {wildcards.dataset}."""
    input:
        rules.convert.output.canonical,
    output:
        patches=LAYOUT.shard("{scheme}", "{dataset}", "{part}"),
    threads: 8
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        entry=lambda wildcards: entry("patches", wildcards.scheme),
    shell:
        "{JEPA3D} --threads {threads} patchify {wildcards.scheme} {wildcards.dataset} --part {wildcards.part}"


rule patchify:
    """Cache the {wildcards.scheme} patches of {wildcards.dataset}."""
    input:
        rules.convert.output.canonical,
        shards,
    output:
        patches=LAYOUT.patches("{scheme}", "{dataset}"),
    threads: 8
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        entry=lambda wildcards: entry("patches", wildcards.scheme),
    shell:
        "{JEPA3D} --threads {threads} patchify {wildcards.scheme} {wildcards.dataset}"


rule all_patchify:
    input:
        [LAYOUT.patches(scheme, dataset) for scheme, dataset in study_patches()],
