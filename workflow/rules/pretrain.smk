# in:   canonical clouds and patches of the run's data, and of its monitor's; what the run begins with (init, reads)
# out:  results/pretrain/{run}/seed{seed}/: encoder.safetensors, config.json, curve.jsonl


rule pretrain:
    """Train {wildcards.run} with seed {wildcards.seed}."""
    input:
        reads("pretrain"),
    output:
        writes("pretrain", "{run}", "{seed}"),
    log:
        LAYOUT.log("pretrain", "{run}", "{seed}"),
    benchmark:
        LAYOUT.benchmark("pretrain", "{run}", "{seed}")
    priority: 10  # the longest chain of the study: start it as soon as it can
    retries: 0  # a job that is lost goes on by itself; another failure would only come again
    threads: 1
    params:
        settings=settings("pretrain"),
    shell:
        "{JEPA3D} --log {log:q} --threads {threads} pretrain {wildcards.run} --seed {wildcards.seed}{ON_CLUSTER}"


rule all_pretrain:
    input:
        every("pretrain"),
