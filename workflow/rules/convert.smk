# in:   the raw files of a data set
# out:  results/canonical/{dataset}.h5 and its audit


rule convert:
    """Convert {wildcards.dataset} to its canonical form."""
    input:
        rules.download.output.source,
    output:
        canonical=LAYOUT.canonical("{dataset}"),
        audit=LAYOUT.audit("{dataset}"),
    threads: 8
    resources:
        mem_mb=more(16000),
        runtime=more(240),
    params:
        entry=lambda wildcards: entry("datasets", wildcards.dataset),
    shell:
        "{JEPA3D} --threads {threads} convert {wildcards.dataset}"


rule all_convert:
    input:
        [LAYOUT.canonical(dataset) for dataset in study_datasets()],
