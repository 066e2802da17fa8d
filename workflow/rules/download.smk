# in:   the network, or the folder that the data set's `root:` names
# out:  results/raw/{dataset}/SOURCE.json: where the raw files are, and their hashes


rule download:
    """Fetch the raw files of {wildcards.dataset}, or record where they are."""
    output:
        writes("download", "{dataset}"),
    log:
        LAYOUT.log("download", "{dataset}"),
    benchmark:
        LAYOUT.benchmark("download", "{dataset}")
    params:
        settings=settings("download"),
    shell:
        "{JEPA3D} --log {log:q} download {wildcards.dataset}"


rule all_download:
    input:
        every("download"),
