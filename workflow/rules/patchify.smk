# in:   results/canonical/{dataset}.h5
# out:  results/patches/{scheme}/{dataset}.h5: FPS and KNN indices


rule patchify:
    """Cache the {wildcards.scheme} patches of {wildcards.dataset}."""
    input:
        rules.convert.output.canonical,
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
