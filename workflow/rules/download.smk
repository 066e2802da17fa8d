# in:   the network, or the folder that the data set's `root:` names
# out:  results/raw/{dataset}/SOURCE.json: where the raw files are, and their hashes


rule download:
    """Fetch the raw files of {wildcards.dataset}, or record where they are."""
    output:
        source=LAYOUT.source("{dataset}"),
    params:
        entry=lambda wildcards: entry("datasets", wildcards.dataset),
    shell:
        "{JEPA3D} download {wildcards.dataset}"


rule all_download:
    input:
        [LAYOUT.source(dataset) for dataset in study_datasets()],
