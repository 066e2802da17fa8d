# in:   the raw files of a data set
# out:  results/canonical/{dataset}.h5 and its audit


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
