# in:   the raw files of a data set
# out:  results/canonical/{dataset}.h5 and its audit
#       results/canonical/{dataset}.overlap/{source}.json: its test shapes that are in the train split of {source}, too


rule convert_overlap:
    """Look for the test shapes of {wildcards.dataset} in the train split of {wildcards.source}."""
    input:
        reads("convert"),
    output:
        writes("convert", "{dataset}", "{source}"),
    log:
        LAYOUT.log("convert", "{dataset}", "{source}"),
    benchmark:
        LAYOUT.benchmark("convert", "{dataset}", "{source}")
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        settings=settings("convert"),
    shell:
        "{JEPA3D} --log {log:q} convert {wildcards.dataset} --overlap {wildcards.source}"


rule convert:
    """Convert {wildcards.dataset} to its canonical form."""
    input:
        reads("convert"),
    output:
        writes("convert", "{dataset}"),
    log:
        LAYOUT.log("convert", "{dataset}"),
    benchmark:
        LAYOUT.benchmark("convert", "{dataset}")
    threads: 8
    resources:
        mem_mb=more(16000),
        runtime=more(240),
    params:
        settings=settings("convert"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} convert {wildcards.dataset}"


rule all_convert:
    input:
        every("convert"),
